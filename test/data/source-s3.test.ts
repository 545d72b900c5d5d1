// Sources in a real store: prefixes and patterns, what is new since the last run, objects that change, connections that break off.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CreateBucketCommand, PutBucketVersioningCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Source } from '../../src/contracts/data-spec.ts';
import type { SpecInput } from '../../src/contracts/spec.ts';
import { type FreezeOptions, freezeSources, takeSnapshot } from '../../src/data/snapshot.ts';
import { giveBackFollowed } from '../../src/data/source/follow.ts';
import { openSource, type SourceContext } from '../../src/data/sources.ts';
import { FREE_PORTS, type Stack, startStack } from '../../src/dev/stack.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { createS3Lister, createS3Reader, createS3Store } from '../../src/storage/s3-store.ts';
import { collect, dataSpec, readParts, specOf } from './given.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
let state: string;
let stack: Stack;
let store: ObjectStore;
let config: { endpoint: string; region: string; accessKeyId: string; secretAccessKey: string };
let ctx: SourceContext;

beforeAll(async () => {
  state = mkdtempSync(join(tmpdir(), 'anneal-s3-'));
  stack = await startStack({ project, state, ports: FREE_PORTS, parts: ['store'] });
  const { ANNEAL_S3_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = stack.environment as Record<string, string>;
  config = {
    ...{ endpoint: ANNEAL_S3_ENDPOINT as string, region: 'us-east-1' },
    ...{ accessKeyId: AWS_ACCESS_KEY_ID as string, secretAccessKey: AWS_SECRET_ACCESS_KEY as string },
  };
  store = createS3Store({ ...config, bucket: 'anneal' });
  ctx = { examplesFolder: state, readS3: createS3Reader(config), listS3: createS3Lister(config) };
});
afterAll(async () => {
  await store?.close();
  await stack?.stop();
  rmSync(state, { recursive: true, force: true });
});

const line = (i: number) => `${JSON.stringify({ question: `q${i}`, answer: `a${i}` })}\n`;
const put = (key: string, text: string | Buffer) => store.put(key, Buffer.from(text));

async function read(uri: string, more: object = {}, options: FreezeOptions = {}) {
  const blobs = createFileStore(join(state, 'blobs'));
  const { sources } = dataSpec({ sources: [{ uri, ...more }] as NonNullable<SpecInput['data']>['sources'] });
  const frozen = await freezeSources(blobs, sources, ctx, () => undefined, undefined, options);
  const names = frozen.snapshot.sources.map((entry) => entry.uri.replace('s3://anneal/', ''));
  const texts: string[] = [];
  for (const { parts } of frozen.snapshot.sources)
    texts.push(Buffer.concat(await collect(readParts(blobs, parts))).toString());
  return { ...frozen, names, texts };
}

test('a prefix and a pattern give their objects in the order of their keys, each pinned by its ETag', async () => {
  await Promise.all([
    put('in/b.jsonl', line(2)),
    put('in/a/x.jsonl', line(1)),
    put('in/c.csv', 'q,a\n1,2\n'),
    put('in/z.png', 'no'),
  ]);
  const whole = await read('s3://anneal/in/');
  expect(whole.names).toEqual(['in/a/x.jsonl', 'in/b.jsonl', 'in/c.csv']);
  expect(whole.texts).toEqual([line(1), line(2), 'q,a\n1,2\n']);
  expect(whole.snapshot.sources.every(({ etag }) => etag !== null)).toBe(true);
  expect(whole.contents[0]?.etag).toMatch(/^[0-9a-f]{64}$/);
  expect((await read('s3://anneal/in/**/*.jsonl')).names).toEqual(['in/a/x.jsonl', 'in/b.jsonl']);
  expect((await read('s3://anneal/in/*.jsonl')).names).toEqual(['in/b.jsonl']);
  await expect(read('s3://anneal/none/')).rejects.toMatchObject({
    kind: 'bad_request',
    message: expect.stringContaining('is an empty folder'),
  });
  await expect(read('s3://no-such-bucket/in/')).rejects.toMatchObject({
    kind: 'bad_request',
    message: expect.stringContaining('is not there (bucket no-such-bucket)'),
  });
});

test('a followed prefix gives each run what is new, a changed object as a whole, and a run that is tried again the same', async () => {
  await Promise.all([put('log/1.jsonl', line(1)), put('log/2.jsonl', line(2))]);
  const take = (run: string, mode: 'new' | 'all' = 'new') =>
    read('s3://anneal/log/', { follow: { mode } }, { follower: { name: `s3-${mode}`, run } });
  expect((await take('r1')).texts).toEqual([line(1), line(2)]);
  expect((await take('all1', 'all')).notes).toEqual([]);
  await Promise.all([put('log/3.jsonl', line(3)), put('log/1.jsonl', line(4))]);
  const second = await take('r2');
  expect(second.texts).toEqual([line(4), line(3)]);
  expect(second.notes).toEqual(['2 new files in s3://anneal/log/']);
  const all = await take('all2', 'all');
  expect([all.texts, all.notes]).toEqual([[line(4), line(2), line(3)], ['2 new files in s3://anneal/log/']]);
  const third = await take('r3');
  expect([third.snapshot.sources, third.notes]).toEqual([[], ['0 new files in s3://anneal/log/']]);
  expect((await take('r2')).snapshot.digest).toBe(second.snapshot.digest);
});

test('what a run took that came to nothing is given back: the next one takes it with what is newer', async () => {
  const uri = 's3://anneal/back/';
  const [source] = dataSpec({ sources: [{ uri, follow: { mode: 'new' } }] }).sources as [Source];
  const take = (run: string) => read(uri, { follow: { mode: 'new' } }, { follower: { name: 'back', run } });
  const giveBack = (run: string) =>
    giveBackFollowed(createFileStore(join(state, 'blobs')), { name: 'back', run }, source);
  await put('back/1.jsonl', line(1));
  expect((await take('r1')).texts).toEqual([line(1)]);
  expect([await giveBack('r1'), await giveBack('r1')]).toEqual([true, true]);
  await put('back/2.jsonl', line(2));
  expect((await take('r2')).texts).toEqual([line(1), line(2)]);
  expect(await giveBack('r1')).toBe(false);
  await put('back/3.jsonl', line(3));
  expect((await take('r3')).texts).toEqual([line(3)]);
  expect(await giveBack('r2')).toBe(false);
  expect(await giveBack('r3')).toBe(true);
  expect((await take('r4')).texts).toEqual([line(3)]);
});

test('an object that changed since it was listed is not read for the other', async () => {
  await put('changed/a.jsonl', line(1));
  const listS3: SourceContext['listS3'] = async (...args) => {
    const listed = await createS3Lister(config)(...args);
    await put('changed/a.jsonl', line(2));
    return listed;
  };
  const { sources } = dataSpec({ sources: [{ uri: 's3://anneal/changed/' }] });
  const blobs = createFileStore(join(state, 'blobs'));
  await expect(freezeSources(blobs, sources, { ...ctx, listS3 }, () => undefined)).rejects.toMatchObject({
    kind: 'source_changed',
    message: 'Source s3://anneal/changed/a.jsonl changed while it was read; try again when its writer is done.',
  });
});

test('a connection that breaks off is taken up again, and an object that changed meanwhile is told', async () => {
  const whole = Buffer.alloc(6 * 1024 ** 2, line(1));
  const readThrough = async (onBreak: () => Promise<void>) => {
    await put('long/a.jsonl', whole);
    await using proxy = await breakingProxy(config.endpoint, 3 * 1024 ** 2, onBreak);
    const readS3 = createS3Reader({ ...config, endpoint: proxy.endpoint });
    const [source] = dataSpec({ sources: [{ uri: 's3://anneal/long/a.jsonl' }] }).sources;
    const { bytes } = await openSource(source as never, { ...ctx, readS3 });
    const read = Buffer.concat(await collect(bytes));
    return { read, breaks: proxy.breaks() };
  };
  const { read: again, breaks } = await readThrough(async () => {});
  expect([again.equals(whole), breaks]).toEqual([true, 1]);
  await expect(readThrough(() => put('long/a.jsonl', line(2)))).rejects.toMatchObject({
    kind: 'source_changed',
    message: expect.stringContaining('changed while it was read'),
  });
});

test('in a bucket that keeps versions a replaced object is read to its end, and its version is noted', async () => {
  const whole = Buffer.alloc(6 * 1024 ** 2, line(1));
  const client = new S3Client({
    ...{ endpoint: config.endpoint, region: config.region, forcePathStyle: true },
    credentials: { accessKeyId: config.accessKeyId, secretAccessKey: config.secretAccessKey },
  });
  const object = { Bucket: 'versions', Key: 'a.jsonl' };
  try {
    await client.send(new CreateBucketCommand({ Bucket: 'versions' }));
    const VersioningConfiguration = { Status: 'Enabled' } as const;
    await client.send(new PutBucketVersioningCommand({ Bucket: 'versions', VersioningConfiguration }));
    const { VersionId } = await client.send(new PutObjectCommand({ ...object, Body: whole }));
    const replace = async () => void (await client.send(new PutObjectCommand({ ...object, Body: line(2) })));
    await using proxy = await breakingProxy(config.endpoint, 3 * 1024 ** 2, replace);
    const readS3 = createS3Reader({ ...config, endpoint: proxy.endpoint });
    const spec = specOf({ sources: [{ uri: 's3://versions/a.jsonl' }] });
    const blobs = createFileStore(join(state, 'blobs'));
    const { sources } = await takeSnapshot(blobs, spec, { ...ctx, readS3 }, () => undefined);
    expect([proxy.breaks(), sources[0]?.sizeBytes, sources[0]?.versionId]).toEqual([1, whole.length, VersionId]);
    expect(VersionId).toEqual(expect.any(String));
  } finally {
    client.destroy();
  }
});

/** Stands before the store and cuts the first connection that has brought so many bytes. */
async function breakingProxy(endpoint: string, afterBytes: number, onBreak: () => Promise<void>) {
  const { hostname, port } = new URL(endpoint);
  let breaks = 0;
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(Number(port), hostname);
    let passed = 0;
    const end = () => {
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', end);
    }
    near.pipe(far);
    far.on('data', (bytes: Buffer) => {
      passed += bytes.length;
      near.write(bytes);
      if (passed < afterBytes || breaks > 0) return;
      breaks++;
      far.pause();
      onBreak().then(() => near.destroy());
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    breaks: () => breaks,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((closed) => server.close(closed));
    },
  };
}
