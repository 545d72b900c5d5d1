// The compose file and the image against the code: variables that are read, files that exist, ports that agree.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { EnvironmentSchema } from '../src/contracts/environment.ts';
import { SEARCH_ATTRIBUTES } from '../src/contracts/names.ts';

const PROJECT = join(import.meta.dirname, '..');
const text = readFileSync(join(PROJECT, 'docker-compose.yml'), 'utf8');
const { services } = parse(text, { merge: true }) as {
  services: Record<
    string,
    { image?: string; command?: string[]; ports?: string[]; environment?: Record<string, string> }
  >;
};
const WORKERS = ['control', 'data', 'gpu', 'gateway'];

test.each(WORKERS)('%s runs a file that exists', (name) => {
  const [file] = services[name]?.command ?? [];
  expect(file).toBe(`src/workers/${name}.ts`);
  expect(existsSync(join(PROJECT, file as string))).toBe(true);
});

test.each(WORKERS)('%s sets only variables that are read, with values that parse', (name) => {
  const environment = services[name]?.environment ?? {};
  const unknown = Object.keys(environment).filter((key) => !(key in EnvironmentSchema.shape));
  expect(unknown).toEqual([]);
  expect(EnvironmentSchema.safeParse(environment).success).toBe(true);
});

test('addresses and ports agree', () => {
  const gateway = services.gateway as (typeof services)[string];
  expect(gateway.environment?.ANNEAL_S3_ENDPOINT).toBe('http://store:8333');
  expect(services.store?.command).toContain('-s3.port=8333');
  expect(services.store?.command).toContain(`-bucket=${gateway.environment?.ANNEAL_S3_BUCKET}`);
  const port = gateway.environment?.ANNEAL_GATEWAY_PORT;
  expect(gateway.ports).toEqual([`127.0.0.1:${port}:${port}`]);
  expect(gateway.environment?.ANNEAL_GATEWAY_URL).toBe(`http://gateway:${port}`);
});

test('every image is pinned, and every search attribute is made', () => {
  const images = Object.values(services).map(({ image }) => image ?? '');
  expect(images.filter((image) => !/:[\d.]+$/.test(image))).toEqual([]);
  for (const name of Object.values(SEARCH_ATTRIBUTES))
    expect(services['create-namespace']?.command?.[0]).toContain(name);
});

test('docker-compose accepts the file, where it is installed', () => {
  const env = { ...process.env, AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b', POSTGRES_PASSWORD: 'c' };
  const checked = spawnSync('docker-compose', ['-f', join(PROJECT, 'docker-compose.yml'), 'config', '-q'], { env });
  const isMissing = (checked.error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
  expect(isMissing ? 0 : checked.status, String(checked.stderr ?? '')).toBe(0);
});

test('the image copies what exists', () => {
  const dockerfile = readFileSync(join(PROJECT, 'gpu-activity-image', 'Dockerfile'), 'utf8');
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources]) =>
    (sources as string).split(' '),
  );
  expect(copied.length).toBeGreaterThan(5);
  expect(copied.filter((path) => !existsSync(join(PROJECT, path)))).toEqual([]);
});
