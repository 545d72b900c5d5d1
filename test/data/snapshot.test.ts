// Freezing sources: what is stored, what the digest depends on, and that freezing twice changes nothing.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SnapshotSchema } from '../../src/contracts/records.ts';
import { type IngestProgress, takeSnapshot } from '../../src/data/snapshot.ts';
import type { SourceContext } from '../../src/data/sources.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { keys } from '../../src/storage/keys.ts';
import { PART_BYTES_MAX } from '../../src/storage/object-store.ts';
import { collect, inPieces, readParts, specOf, temporaryFolder } from './given.ts';

const ctx: SourceContext = { examplesFolder: '/nowhere', readS3: async () => null };
const silent = () => {};

test('the bytes are stored in parts and the record names them', async () => {
  await using folder = await temporaryFolder();
  const store = createFileStore(join(folder.path, 'store'));
  // Not a multiple of any buffer's size, so that pieces and parts do not meet.
  const line = `{"a":"${'x'.repeat(1_000_003)}"}\n`;
  const content = Buffer.from(line.repeat(36));
  const path = await folder.write('rows.jsonl', content);
  const progress: IngestProgress[] = [];

  const snapshot = await takeSnapshot(store, specOf({}, [path]), ctx, (p) => progress.push(p));

  const [source] = SnapshotSchema.parse(snapshot).sources;
  expect(source).toMatchObject({ uri: path, format: 'jsonl', shape: 'auto', sizeBytes: content.length, etag: null });
  expect(source?.sha256).toBe(createHash('sha256').update(content).digest('hex'));
  const parts = await collect(readParts(store, source?.parts ?? []));
  expect(parts.map((part) => part.length)).toEqual([PART_BYTES_MAX, content.length - PART_BYTES_MAX]);
  expect(Buffer.concat(parts).equals(content)).toBe(true);
  const read = progress.map((p) => p.bytesRead);
  expect([read[0], read.at(-1)]).toEqual([0, content.length]);
  expect(read).toEqual(read.toSorted((a, b) => a - b));
  expect(source?.newlines?.reduce((sum, n) => sum + n)).toBe(36);
  expect(progress.at(-1)).toMatchObject({ source: 1, of: 1, uri: path, sizeBytes: content.length });
  expect(JSON.parse(Buffer.from((await store.get(keys.snapshot(snapshot.digest))) ?? []).toString())).toEqual(snapshot);
});

test('the digest depends on bytes, format, shape and order, not on the place', async () => {
  await using folder = await temporaryFolder();
  const store = createFileStore(join(folder.path, 'store'));
  const [a, copy, other] = await Promise.all([
    folder.write('a.jsonl', '{"a":1}'),
    folder.write('copy.jsonl', '{"a":1}'),
    folder.write('other.jsonl', '{"a":2}'),
  ]);
  const digestOf = async (...sources: object[]) =>
    (await takeSnapshot(store, specOf({ sources: sources as never }), ctx, silent)).digest;

  const digest = await digestOf({ uri: a });
  expect(await digestOf({ uri: a })).toBe(digest);
  expect(await digestOf({ uri: copy })).toBe(digest);
  const others = [
    await digestOf({ uri: other }),
    await digestOf({ uri: a, format: 'json' }),
    await digestOf({ uri: a, shape: 'messages' }),
    await digestOf({ uri: a }, { uri: other }),
    await digestOf({ uri: other }, { uri: a }),
  ];
  expect(new Set([digest, ...others]).size).toBe(6);
});

test('an empty source is rejected, and nothing is recorded', async () => {
  await using folder = await temporaryFolder();
  const store = createFileStore(join(folder.path, 'store'));
  const path = await folder.write('empty.jsonl', ' \n');
  await expect(takeSnapshot(store, specOf({}, [path]), ctx, silent)).rejects.toMatchObject({
    kind: 'data_rejected',
    message: `Source ${path} is empty; put rows into it, or take it out of \`data.sources\`.`,
  });
  expect(await store.list('snapshots/')).toEqual([]);
});

test('a cancelled ingest ends with the reason', async () => {
  await using folder = await temporaryFolder();
  const store = createFileStore(join(folder.path, 'store'));
  const path = await folder.write('rows.jsonl', '{"a":1}');
  await expect(
    takeSnapshot(store, specOf({}, [path]), ctx, silent, AbortSignal.abort(new Error('enough'))),
  ).rejects.toThrow('enough');
});

test('a source without a known size is read to its end', async () => {
  await using folder = await temporaryFolder();
  const store = createFileStore(join(folder.path, 'store'));
  const readS3: SourceContext['readS3'] = async () => ({
    bytes: inPieces('q,a\n1,2\n', 3),
    etag: '"e"',
    sizeBytes: null,
  });
  const snapshot = await takeSnapshot(store, specOf({}, ['s3://b/k.csv']), { ...ctx, readS3 }, silent);
  expect(snapshot.sources[0]).toMatchObject({ format: 'csv', sizeBytes: 8, etag: '"e"' });
});
