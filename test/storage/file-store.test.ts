// Stores beside the conformance suite: keys that cannot leave a folder, and the probe that refuses a careless store.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createFileStore } from '../../src/storage/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { probeStore } from '../../src/storage/open-store.ts';
import { createMemoryStore } from '../support/memory-store.ts';
import { describeObjectStore } from './object-store.conformance.ts';

describe('file store', () => {
  const root = mkdtempSync(join(tmpdir(), 'anneal-file-store-'));
  describeObjectStore(() => ({ first: createFileStore(root), second: createFileStore(root) }));

  test('keys with dots cannot leave the folder', async () => {
    const store = createFileStore(root);
    await store.put('a/../../outside', Buffer.from('x'));
    expect(await store.list('a/')).toEqual(['a/../../outside']);
  });
});

describe('memory store', () => {
  const store = createMemoryStore();
  describeObjectStore(() => ({ first: store, second: store }));
});

test('the probe refuses a store that ignores the condition', async () => {
  const objects = new Map<string, Uint8Array>();
  const careless: ObjectStore = {
    ...createFileStore(mkdtempSync(join(tmpdir(), 'anneal-careless-'))),
    putIfAbsent: async (key, body) => {
      objects.set(key, body);
      return 'created';
    },
    get: async (key) => objects.get(key) ?? null,
    delete: async (key) => void objects.delete(key),
  };
  await expect(probeStore(careless)).rejects.toMatchObject({ kind: 'bad_request' });
});
