// `docker-compose.yml` against the code that it runs: every variable is one that the processes read, every file is there,
// and the servers get the same flags as in the embedded stack. Not shown here: that the images start.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { EnvironmentSchema, readEnvironment } from '../src/contracts/environment.ts';
import { SEARCH_ATTRIBUTES } from '../src/contracts/names.ts';
import { planObjectServer } from '../src/dev/object-server.ts';
import { DEFAULT_PORTS } from '../src/dev/ports.ts';
import { DEEPSPEED_ENVIRONMENT, DEEPSPEED_OPTIONS } from '../src/dev/set-up/deepspeed.mjs';
import { planTemporal } from '../src/dev/temporal-server.ts';
import { createMetrics } from '../src/serving/metrics.ts';
import { metricsOfDashboard } from './support/dashboard.ts';

interface Service {
  image: string;
  command?: string[];
  entrypoint?: string[];
  environment?: Record<string, unknown>;
  ports?: string[];
  volumes?: string[];
  networks?: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
}

const PROJECT = resolve(import.meta.dirname, '..');
const COMPOSE_FILE = resolve(PROJECT, 'docker-compose.yml');
const COMPOSE_FOLDER = resolve(PROJECT, 'src/dev/compose');
const WORKERS = ['control', 'data', 'gpu', 'gpu-on-cpu', 'gateway'];

/** What a user writes into `.env`. */
const SECRETS = { POSTGRES_PASSWORD: 'p', STORE_ACCESS_KEY: 'k', STORE_SECRET_KEY: 's' };

const text = readFileSync(COMPOSE_FILE, 'utf8');
const compose = parse(text, { merge: true }) as {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  networks: Record<string, unknown>;
};
const service = (name: string): Service => {
  const found = compose.services[name];
  if (found === undefined) throw new Error(`docker-compose.yml has no service ${name}.`);
  return found;
};
const dockerfile = readFileSync(resolve(PROJECT, 'gpu-activity-image/Dockerfile'), 'utf8');

/** `${NAME:-default}` and `${NAME:?message}`, as compose replaces them. */
const substitute = (value: string) =>
  value.replace(/\$\{(\w+)(?::[-?]([^}]*))?\}/g, (_whole, name: string, fallback: string) => {
    return (SECRETS as Record<string, string>)[name] ?? fallback;
  });

const imageEnvironment = () =>
  Object.fromEntries([...dockerfile.matchAll(/^(?:ENV)?\s+(ANNEAL_\w+)=(\S+)/gm)].map((match) => [match[1], match[2]]));

describe('docker-compose.yml', () => {
  // PGPASSWORD is read by the PostgreSQL client itself.
  test.each(WORKERS)('%s runs a worker of the sources with variables that it reads', (name) => {
    const { command = [], environment = {} } = service(name);
    expect(command).toHaveLength(1);
    expect(existsSync(resolve(PROJECT, command[0] ?? ''))).toBe(true);
    const unknown = Object.keys(environment).filter((key) => !(key in EnvironmentSchema.shape) && key !== 'PGPASSWORD');
    expect(unknown).toEqual([]);
    const values = Object.entries(environment).map(([key, value]) => [key, substitute(String(value))]);
    const read = readEnvironment({ ...imageEnvironment(), ...Object.fromEntries(values) });
    expect(read).toMatchObject({ ANNEAL_STORE: 's3', AWS_ACCESS_KEY_ID: 'k', AWS_SECRET_ACCESS_KEY: 's' });
  });

  test('the image names folders and a ready file that the processes know', () => {
    const { ANNEAL_READY_FILE, ...rest } = imageEnvironment();
    expect(ANNEAL_READY_FILE).toBe('/dev/shm/anneal-ready');
    expect(Object.keys(rest).filter((key) => !(key in EnvironmentSchema.shape))).toEqual([]);
    expect(Object.keys(rest)).toEqual(['ANNEAL_STATE', 'ANNEAL_PYTHON', 'ANNEAL_MODELS', 'ANNEAL_EXAMPLES']);
  });

  test('workers mount what their image expects, and every volume and network is declared', () => {
    const { ANNEAL_STATE, ANNEAL_MODELS } = imageEnvironment();
    for (const name of WORKERS) expect(targetsOf(service(name)), name).toContain(ANNEAL_STATE);
    for (const name of ['data', 'gpu', 'gpu-on-cpu', 'gateway']) {
      expect(targetsOf(service(name)), name).toContain(ANNEAL_MODELS);
    }
    const services = Object.values(compose.services);
    const named = services.flatMap(({ volumes = [] }) =>
      volumes.flatMap((volume) => volume.match(/^[a-z-]+(?=:)/) ?? []),
    );
    expect([...new Set(named)].sort()).toEqual(Object.keys(compose.volumes).sort());
    const networks = services.flatMap(({ networks: used = [] }) => used);
    expect([...new Set(networks)].sort()).toEqual(Object.keys(compose.networks).sort());
  });

  test('files that are mounted or built from are there', () => {
    const mounted = [...text.matchAll(/^\s+- (\.\/src[^:]+):/gm)].map((match) => match[1] ?? '');
    expect(mounted.length).toBe(7);
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap((match) =>
      (match[1] ?? '').split(' '),
    );
    expect(copied.length).toBeGreaterThan(3);
    for (const path of [...mounted, ...copied]) expect(existsSync(resolve(PROJECT, path)), path).toBe(true);
  });

  test('the image installs every list of Python packages, DeepSpeed as the set-up does', () => {
    const folder = resolve(PROJECT, 'gpu-activity-image');
    const lists = readdirSync(folder).filter((name) => /^requirements.*\.txt$/.test(name));
    const installed = [...dockerfile.matchAll(/ -r (\S+)/g)].map((match) => match[1]);
    expect(installed.sort()).toEqual(lists.sort());
    const step = dockerfile.split(/^(?=[A-Z]+ )/m).find((text) => text.includes('-r requirements-deepspeed.txt')) ?? '';
    const wanted = Object.entries(DEEPSPEED_ENVIRONMENT).map(([name, value]) => `${name}=${value}`);
    for (const word of [...wanted, ...DEEPSPEED_OPTIONS]) expect(step.split(/\s+/)).toContain(word);
  });

  test('ports are those of the embedded stack and of the metrics, on loopback only', () => {
    const ofMetrics = ['127.0.0.1:9090:9090', '127.0.0.1:3000:3000'];
    const all = Object.values(compose.services).flatMap(({ ports = [] }) => ports);
    expect(all).toEqual(expect.arrayContaining(ofMetrics));
    const published = all.filter((port) => !ofMetrics.includes(port));
    expect(published.map((port) => port.split(':').slice(0, 2).join(':')).sort()).toEqual(
      Object.values(DEFAULT_PORTS)
        .map((port) => `127.0.0.1:${port}`)
        .sort(),
    );
  });

  test('the store gets the flags of the embedded store, but for its folders and its address', () => {
    const plan = planObjectServer({
      binary: 'weed',
      port: DEFAULT_PORTS.store,
      folder: '/',
      access: {
        endpoint: 'http://127.0.0.1:8333',
        bucket: String(service('control').environment?.ANNEAL_S3_BUCKET),
        credentials: { accessKeyId: 'k', secretAccessKey: 's' },
      },
    });
    const ofPlace = /^-(logdir|logtostderr|dir|ip\.bind)=/;
    const flags = (args: string[]) => args.filter((arg) => !ofPlace.test(arg)).sort();
    expect(flags(service('store').command ?? [])).toEqual(flags(plan.args));
    expect(service('store').environment).toMatchObject({ GOMEMLIMIT: plan.environment.GOMEMLIMIT });
  });

  test('Temporal gets the search attributes and the dynamic configuration of the embedded one', () => {
    const names = String(service('temporal-namespace').environment?.SEARCH_ATTRIBUTES).split(' ');
    expect(names).toEqual(Object.values(SEARCH_ATTRIBUTES));
    const config = parse(readFileSync(resolve(PROJECT, 'src/dev/compose/dynamic-config.yaml'), 'utf8')) as Record<
      string,
      { value: unknown }[]
    >;
    const flags = Object.entries(config).map(([key, [first]]) => `${key}=${String(first?.value)}`);
    const { args } = planTemporal({ binary: 'temporal', ports: DEFAULT_PORTS, databaseFile: null });
    expect(flags).toEqual(args.filter((_arg, index) => args[index - 1] === '--dynamic-config-value'));
  });

  test('Prometheus asks services that it can reach, on ports that they listen on', () => {
    const { scrape_configs } = parse(readFileSync(resolve(COMPOSE_FOLDER, 'prometheus.yml'), 'utf8')) as {
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    const targets = scrape_configs.flatMap((job) => job.static_configs.flatMap((config) => config.targets));
    expect(targets).toEqual([
      `gateway:${service('gateway').environment?.ANNEAL_GATEWAY_PORT}`,
      `temporal:${String(service('temporal').environment?.PROMETHEUS_ENDPOINT).split(':')[1]}`,
    ]);
    for (const target of targets) {
      const networks = service(target.split(':')[0] ?? '').networks ?? [];
      expect(
        networks.some((network) => service('prometheus').networks?.includes(network)),
        target,
      ).toBe(true);
    }
  });

  test('the dashboard shows exactly the metrics that the gateway has', () => {
    const shown = metricsOfDashboard().filter((name) => name.startsWith('anneal_'));
    const had = [
      ...createMetrics()
        .text(true)
        .matchAll(/^# TYPE (\w+)/gm),
    ].map((match) => match[1]);
    expect(shown.sort()).toEqual(had.sort());
  });

  test('the images are pinned to a version', () => {
    for (const [name, { image }] of Object.entries(compose.services)) expect(image, name).toMatch(/:v?\d+(\.\d+)+$/);
    expect(dockerfile).toMatch(/^ARG NODE_IMAGE=node:\d+\.\d+\.\d+-/m);
  });

  test.each(['set-up-database.sh', 'set-up-namespace.sh'])('%s is a shell script without errors of syntax', (name) => {
    execFileSync('sh', ['-n', resolve(PROJECT, 'src/dev/compose', name)]);
  });

  test.runIf(isInstalled('docker-compose'))('docker-compose itself reads it', () => {
    const env = { ...process.env, ...SECRETS };
    const out = execFileSync('docker-compose', ['-f', COMPOSE_FILE, 'config', '--services'], { env, encoding: 'utf8' });
    expect(out.trim().split('\n')).toEqual(expect.arrayContaining(Object.keys(compose.services)));
  });
});

function targetsOf({ volumes = [] }: Service): string[] {
  return volumes.map((volume) => substitute(volume).split(':')[1] ?? '');
}

function isInstalled(command: string): boolean {
  try {
    execFileSync(command, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
