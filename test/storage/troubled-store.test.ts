// A store in trouble: short trouble is not noticed, long trouble is `store_unavailable`, and wrong bytes are never taken for right ones.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { getBlob, putBlob } from '../../src/storage/file-set.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { createS3Store } from '../../src/storage/s3-store.ts';
import { type CarelessStore, startCarelessStore, type Trouble } from '../support/careless-store.ts';

/** More than a request is tried. */
const LONG = 8;
const BYTES = Buffer.alloc(200_000, 'weights ');

let troubles: Trouble[];
let server: CarelessStore;
let store: ObjectStore;

beforeEach(async () => {
  troubles = [];
  server = await startCarelessStore('kept', troubles);
  const keys = { accessKeyId: 'a', secretAccessKey: 'b' };
  store = createS3Store({ endpoint: server.endpoint, region: 'us-east-1', bucket: 'anneal', ...keys });
});

afterEach(async () => {
  await store.close();
  await server[Symbol.asyncDispose]();
});

test('a short 503 is not noticed, neither in writing nor in reading', async () => {
  troubles.push('unavailable', 'unavailable');
  const digest = await putBlob(store, BYTES);
  troubles.push('unavailable');
  expect(Buffer.from(await getBlob(store, digest)).equals(BYTES)).toBe(true);
  expect(troubles).toEqual([]);
});

test('a long 503 is a store that is away, by name and remedy', async () => {
  troubles.push(...Array<Trouble>(LONG).fill('unavailable'));
  await expect(store.put('blobs/x', BYTES)).rejects.toMatchObject({
    kind: 'store_unavailable',
    message: expect.stringMatching(/^The object store could not write blobs\/x \(.+\); check that it runs/),
  });
});

test('a body that breaks off is a store that is away, and the next read has it whole', async () => {
  const digest = await putBlob(store, BYTES);
  troubles.push('cut');
  await expect(getBlob(store, digest)).rejects.toMatchObject({ kind: 'store_unavailable' });
  expect(Buffer.from(await getBlob(store, digest)).equals(BYTES)).toBe(true);
});

test('a flipped bit is found by the digest', async () => {
  const digest = await putBlob(store, BYTES);
  troubles.push('flipped');
  await expect(getBlob(store, digest)).rejects.toMatchObject({ kind: 'checkpoint_corrupt' });
});

test('a create whose answer was lost knows its own object again, and not that of another', async () => {
  troubles.push('unanswered');
  expect(await store.putIfAbsent('claims/1', Buffer.from('mine'))).toBe('mine');
  troubles.push('unanswered');
  expect(await store.putIfAbsent('claims/1', Buffer.from('other'))).toBe('exists');
});
