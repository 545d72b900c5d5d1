// Publishing routes: numbered, create-only, each version once.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { createFileStore } from '../../src/storage/file-store.ts';
import { publishVersion, scratchFolder, writeAdapter } from './given.ts';

const state = scratchFolder();
const store = createFileStore(join(state, 'store'));
const folders = [1, 2, 3, 4, 5].map((seed) => writeAdapter(join(state, String(seed)), seed));
afterAll(() => rmSync(state, { recursive: true }));

test('racing publishers get numbers of their own, without a gap', async () => {
  const routes = await Promise.all(folders.map((folder, i) => publishVersion(store, folder, i + 1)));
  expect(routes.map((route) => route.number).sort()).toEqual([1, 2, 3, 4, 5]);
});

test('a version that is newest already is not published again, an older one is', async () => {
  const at = { endpoint: 'other' };
  const first = await publishVersion(store, folders[0] as string, 1, at);
  expect(await publishVersion(store, folders[0] as string, 1, at)).toEqual(first);
  await publishVersion(store, folders[1] as string, 2, at);
  const back = await publishVersion(store, folders[0] as string, 1, at);
  expect(back).toMatchObject({ number: 3, version: 1, digest: first.digest });
});
