// The run id says what a run is: equal for equal spec, data and code, different for anything else.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestData } from '../../src/client/data-digest.ts';
import { runIdFor } from '../../src/client/run-id.ts';
import { parseSpec } from '../../src/contracts/spec.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-run-id-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const options = () => ({ examples: folder, s3ETag: async () => null });
const specOf = (uri: string, more: object = {}) => parseSpec({ name: 'meters', data: { sources: [{ uri }] }, ...more });

async function idOf(uri: string, more: object = {}, code = 'c0de'): Promise<string> {
  const spec = specOf(uri, more);
  return runIdFor(spec, (await digestData(spec.data.sources, options())).digest, code);
}

test('the id is the name and twelve hex digits', async () => {
  writeFileSync(join(folder, 'a.jsonl'), 'one\n');
  expect(await idOf(`file://${folder}/a.jsonl`)).toMatch(/^meters-[0-9a-f]{12}$/);
});

test('the same rows in another place give the same id, other rows another', async () => {
  writeFileSync(join(folder, 'a.jsonl'), 'one\n');
  writeFileSync(join(folder, 'b.jsonl'), 'one\n');
  writeFileSync(join(folder, 'c.jsonl'), 'two\n');
  const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => idOf(`file://${folder}/${name}.jsonl`)));
  expect(b).toBe(a);
  expect(c).not.toBe(a);
});

test('defaults that are written out change nothing; another recipe or other code does', async () => {
  writeFileSync(join(folder, 'a.jsonl'), 'one\n');
  const uri = `file://${folder}/a.jsonl`;
  const plain = await idOf(uri);
  expect(await idOf(uri, { train: { epochs: 3 } })).toBe(plain);
  expect(await idOf(uri, { train: { epochs: 4 } })).not.toBe(plain);
  expect(await idOf(uri, {}, 'other')).not.toBe(plain);
});

test('example sources are hashed from the examples folder', async () => {
  writeFileSync(join(folder, 'a.jsonl'), 'one\n');
  const { sources } = await digestData([{ uri: 'example:a.jsonl' }], options());
  expect(sources[0]?.identity).toMatch(/^sha256:[0-9a-f]{64}$/);
});

test('a web source is known by its ETag, and by its address with a note where it gives none', async () => {
  let etag: string | undefined = '"v1"';
  const server = createServer((request, response) => {
    expect(request.method).toBe('HEAD');
    response.writeHead(200, etag ? { etag } : {}).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/rows.jsonl`;
    const first = await digestData([{ uri }], options());
    etag = '"v2"';
    const second = await digestData([{ uri }], options());
    etag = undefined;
    const third = await digestData([{ uri }], options());
    expect(second.digest).not.toBe(first.digest);
    expect(first.sources[0]?.note).toBeNull();
    expect(third.sources[0]?.note).toContain('gave no ETag');
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

test('a source that cannot be read from here still gives an id, with a note', async () => {
  const { sources } = await digestData([{ uri: `file://${folder}/gone.jsonl` }, { uri: 's3://bucket/key' }], options());
  expect(sources.map(({ identity }) => identity.slice(0, 4))).toEqual(['uri:', 'uri:']);
  expect(sources.every(({ note }) => note !== null)).toBe(true);
});
