// State folders that cannot be used: each one sentence that says what to do, and nothing in them is touched.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readOrCreateCredentials } from '../../src/dev/object-server.ts';
import { startStack, stopStack } from '../../src/dev/stack.ts';
import { readStack } from '../../src/dev/stack-file.ts';
import { canMount, mountSmallDisk } from '../support/small-disk.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-state-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const start = (state: string) => startStack({ project: join(import.meta.dirname, '..', '..'), state });

test.each([
  ['of another version', '{"v":2,"supervisor":{"pid":1,"startTicks":"1"},"parts":{},"ports":{},"environment":{}}'],
  ['cut off', '{"v":1,"superv'],
  ['of no stack', '{}'],
  ['empty', ''],
])('a stack file %s is refused by all, and left alone', async (_what, text) => {
  const file = join(folder, 'stack.json');
  writeFileSync(file, text);
  const sentence = `${file} is damaged or was written by another version of Anneal`;
  expect(() => readStack(folder)).toThrow(sentence);
  await expect(start(folder)).rejects.toThrow(sentence);
  await expect(stopStack(folder)).rejects.toThrow(sentence);
  expect(readFileSync(file, 'utf8')).toBe(text);
});

test('a state folder that is a file is named', async () => {
  const state = join(folder, 'file');
  writeFileSync(state, 'x');
  await expect(start(state)).rejects.toThrow(`The state folder ${state} cannot be made`);
  expect(() => readStack(state)).toThrow('set ANNEAL_STATE to a folder that you may use');
});

test.skipIf(process.platform !== 'linux')('a state folder where nothing can be made is named', async () => {
  await expect(start('/proc/anneal')).rejects.toThrow('The state folder /proc/anneal cannot be made (ENOENT)');
});

test.skipIf(!canMount())('a state folder on a full disk is named with what is free', async () => {
  using _disk = mountSmallDisk(join(folder, 'small'), 64);
  await expect(start(join(folder, 'small', 'state'))).rejects.toThrow(
    /^The disk of the state folder \S+ has 0\.0 GB free and a stack needs 2\.0 GB; free space, or set ANNEAL_STATE/,
  );
});

test('damaged credentials of the store are named and not replaced', () => {
  const file = join(folder, 'store', 'credentials.json');
  mkdirSync(join(folder, 'store'));
  writeFileSync(file, '{bad');
  expect(() => readOrCreateCredentials(file)).toThrow(`credentials in ${file} cannot be read`);
  expect(readFileSync(file, 'utf8')).toBe('{bad');
});
