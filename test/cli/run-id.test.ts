// The run id says what a run is: equal for equal spec, data and code, different for anything else.
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createIngestActivities } from '../../src/activities/ingest.ts';
import type { Parts } from '../../src/activities/parts.ts';
import { createRegisterActivities } from '../../src/activities/register.ts';
import { identifySources } from '../../src/client/source-contents.ts';
import { inputsOf } from '../../src/contracts/data-spec.ts';
import { parseSpec, type Spec } from '../../src/contracts/spec.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { runIdFor } from '../../src/storage/run-id.ts';
import { codeIdentity } from '../../src/telemetry/code-identity.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-run-id-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const options = () => ({ examples: folder, s3ETag: async () => null });
const specOf = (uri: string, more: object = {}) => parseSpec({ name: 'meters', data: { sources: [{ uri }] }, ...more });

async function idOf(uri: string, more: object = {}, code = 'c0de'): Promise<string> {
  const spec = specOf(uri, more);
  const contents = await identifySources(spec.data.sources, options());
  return runIdFor(
    spec,
    contents.map(({ identity }) => identity),
    code,
  );
}

test('the id is the name and twelve hex digits', async () => {
  writeFileSync(join(folder, 'a.jsonl'), 'one\n');
  expect(await idOf(`file://${folder}/a.jsonl`)).toMatch(/^meters-[0-9a-f]{12}$/);
});

test('what may be spent and who goes first is no part of it', async () => {
  writeFileSync(join(folder, 'a.jsonl'), 'one\n');
  const uri = `file://${folder}/a.jsonl`;
  const more = { budget: { gpuHours: 3 }, queue: { team: 'research', priority: 1 } };
  expect(await idOf(uri, more)).toBe(await idOf(uri));
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
  const [source] = await identifySources([{ uri: 'example:a.jsonl' }], options());
  expect(source?.identity).toMatch(/^sha256:[0-9a-f]{64}$/);
});

test('a source whose rows may name images says that the id does not follow them', async () => {
  writeFileSync(join(folder, 'images.jsonl'), '{"prompt": "what is it?", "images": ["x.png"]}\n');
  writeFileSync(join(folder, 'images.csv'), 'question,answer,image\nwhat is it?,a square,x.png\n');
  writeFileSync(join(folder, 'plain.jsonl'), '{"prompt": "what is an image?"}\n');
  writeFileSync(
    join(folder, 'images.jsonl.gz'),
    gzipSync('{"prompt": "what is it?", "images": ["x.png"]}\n'.repeat(9)),
  );
  const sources = ['images.jsonl', 'images.csv', 'plain.jsonl', 'images.jsonl.gz'].map((name) => ({
    uri: `file://${folder}/${name}`,
  }));
  const notes = (await identifySources(sources, options())).map(({ note }) => note);
  expect(notes[0]).toContain('the run id does not follow what lies there');
  expect(notes[1]).toContain('give the spec another `name`');
  expect(notes[2]).toBeNull();
  expect(notes[3]).toContain('the run id does not follow what lies there');
});

test('a web source is known by its ETag, and by its address with a note where it gives none', async () => {
  let etag: string | undefined = '"v1"';
  const methods: (string | undefined)[] = [];
  let rows = '{"question": "a"}\n';
  const server = createServer((request, response) => {
    methods.push(request.method);
    response.writeHead(200, etag ? { etag } : {}).end(request.method === 'HEAD' ? '' : rows);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/rows.jsonl`;
    const [first] = await identifySources([{ uri }], options());
    etag = '"v2"';
    const [second] = await identifySources([{ uri }], options());
    etag = undefined;
    const [third] = await identifySources([{ uri }], options());
    expect(second?.identity).not.toBe(first?.identity);
    expect(first?.note).toBeNull();
    expect(third?.note).toContain('gave no ETag and no date of its last change');
    expect(methods).toEqual(['HEAD', 'GET', 'HEAD', 'GET', 'HEAD']);
    etag = '"v3"';
    rows = '{"question": "a", "image": "x.png"}\n';
    expect((await identifySources([{ uri }], options()))[0]?.note).toContain('does not follow what lies there');
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

test('a retraining of the same content is the same run, wherever the sources lie', async () => {
  writeFileSync(join(folder, 'rows.jsonl'), '{"question":"a","answer":"b"}\n');
  const server = createServer((_request, response) => response.writeHead(200, { etag: '"v1"' }).end('{}\n'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const web = `http://127.0.0.1:${(server.address() as AddressInfo).port}/rows.jsonl?signature=1`;
    const sources = [
      { uri: 'example:rows.jsonl' },
      { uri: `file://${folder}/rows.jsonl` },
      { uri: web, allowPrivate: true },
    ];
    const spec = parseSpec({ name: 'meters', data: { sources } });
    const identities = (await identifySources(sources, options())).map(({ identity }) => identity);
    expect(await plannedRun(spec)).toBe(runIdFor(spec, identities, codeIdentity().digest));
    writeFileSync(join(folder, 'rows.jsonl'), '{"question":"c","answer":"d"}\n');
    expect(await plannedRun(spec)).not.toBe(runIdFor(spec, identities, codeIdentity().digest));
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

test('a folder is known by its files, packed ones and documents as they lie there, the same by looking as by reading', async () => {
  const data = join(folder, 'data');
  mkdirSync(join(data, 'docs'), { recursive: true });
  writeFileSync(join(data, 'a.jsonl.gz'), gzipSync('{"question":"a","answer":"b"}\n'));
  writeFileSync(join(data, 'b.jsonl'), '{"question":"c","answer":"d"}\n');
  writeFileSync(join(data, 'docs', 'x.md'), '# Text');
  const spec = parseSpec({ name: 'meters', data: { sources: [{ uri: data }, { uri: `${data}/docs/*` }] } });
  const looked = async () => (await identifySources(spec.data.sources, options())).map(({ identity }) => identity);
  const before = await looked();
  expect(before[0]).toMatch(/^sha256:/);
  expect(await plannedRun(spec)).toBe(runIdFor(spec, before, codeIdentity().digest));
  writeFileSync(join(data, 'docs', 'x.md'), '# Other text');
  const after = await looked();
  expect([after[0] === before[0], after[1] === before[1]]).toEqual([false, false]);
});

test('an evaluation suite counts by what is in it, wherever it lies, the same by looking as by reading', async () => {
  writeFileSync(join(folder, 'rows.jsonl'), '{"question":"a","answer":"b"}\n');
  const look = async (suite: string) => {
    const data = { sources: [{ uri: 'example:rows.jsonl' }], decontaminate: { against: [suite] } };
    const spec = parseSpec({ name: 'meters', data });
    const contents = await identifySources(inputsOf(spec.data), options());
    const run = runIdFor(
      spec,
      contents.map(({ identity }) => identity),
      codeIdentity().digest,
    );
    expect(await plannedRun(spec)).toBe(run);
    return run;
  };
  for (const name of ['suite.jsonl', 'copy.jsonl']) writeFileSync(join(folder, name), '{"question":"c"}\n');
  const before = await look(join(folder, 'suite.jsonl'));
  expect(await look(join(folder, 'copy.jsonl'))).toBe(before);
  writeFileSync(join(folder, 'suite.jsonl'), '{"question":"d"}\n');
  expect(await look(join(folder, 'suite.jsonl'))).not.toBe(before);
});

test('a database is known by its address and query, with a note that says so', async () => {
  const query = { uri: 'postgres://anneal@db/shop?sslmode=require', query: 'SELECT 1' };
  const [source] = await identifySources([query], options());
  expect(source?.note).toBe(
    'postgres://db/shop is a database, whose content is known only once it was read; the run id follows its address and query only.',
  );
  expect((await identifySources([{ uri: `${folder}/faq.db`, table: 'faq' }], options()))[0]?.note).toContain(
    'is a database',
  );
  const ids = [query, { ...query, query: 'SELECT 2' }].map((one) =>
    runIdFor(parseSpec({ name: 'a', data: { sources: [one] } }), [source?.identity ?? ''], 'c0de'),
  );
  expect(ids[0]).not.toBe(ids[1]);
});

/** The run that the `Retraining` workflow would start, by its own activities. */
async function plannedRun(spec: Spec): Promise<string> {
  const models = join(import.meta.dirname, '..', '..', '.anneal', 'models');
  const parts = { store: createFileStore(join(folder, 'store')), examples: folder, models } as Parts;
  const { ingest } = createIngestActivities(parts, async () => null);
  const { planRetraining } = createRegisterActivities(parts);
  const quiet = { logger: new DefaultLogger('ERROR') };
  // Another start of the schedule: what an earlier one read is not remembered for it.
  const workflowExecution = { workflowId: 'retraining', runId: randomUUID() };
  const run = <I, O>(activity: (input: I) => Promise<O>, input: I) =>
    new MockActivityEnvironment({ workflowExecution }, quiet).run(activity, input) as Promise<O>;
  const { snapshot, contents } = await run(ingest, { run: 'retraining', spec });
  return (await run(planRetraining, { spec, snapshot, contents })).run;
}

test('a source that cannot be read from here still gives an id, with a note', async () => {
  const missing = [{ uri: `file://${folder}/gone.jsonl` }, { uri: 's3://bucket/key' }];
  const sources = await identifySources(missing, options());
  expect(sources.map(({ identity }) => identity.slice(0, 4))).toEqual(['uri:', 'uri:']);
  expect(sources.every(({ note }) => note !== null)).toBe(true);
});
