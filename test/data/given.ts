// What the tests of `src/data` start from: bytes in pieces, a temporary folder, a snapshot of files, a seeded generator.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Snapshot } from '../../src/contracts/records.ts';
import type { Method, QuarantinedRow, Row } from '../../src/contracts/rows.ts';
import { parseSpec, type Spec, type SpecInput } from '../../src/contracts/spec.ts';
import { type CleanResult, cleanRows } from '../../src/data/preprocess.ts';
import { takeSnapshot } from '../../src/data/snapshot.ts';
import { getBlob } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';

export async function* inPieces(
  bytes: Uint8Array | string,
  size = Number.POSITIVE_INFINITY,
): AsyncGenerator<Uint8Array> {
  const whole = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
  for (let at = 0; at < whole.length; at += size) yield whole.subarray(at, at + size);
}

export async function collect<T>(all: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const one of all) collected.push(one);
  return collected;
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export interface Folder extends AsyncDisposable {
  path: string;
  write(name: string, content: string | Uint8Array): Promise<string>;
}

/** A folder that is gone when the scope is left. */
export async function temporaryFolder(): Promise<Folder> {
  const path = await mkdtemp(join(tmpdir(), 'anneal-data-'));
  return {
    path,
    async write(name, content) {
      await writeFile(join(path, name), content);
      return join(path, name);
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

export function dataSpec(data: Partial<SpecInput['data']>, uris: string[] = ['x']): Spec['data'] {
  return parseSpec({ name: 'test', data: { sources: uris.map((uri) => ({ uri })), ...data } }).data;
}

export interface Cleaned extends CleanResult {
  snapshot: Snapshot;
  folder: string;
  rows: Record<'train' | 'validation' | 'test', Row[]>;
  /** Of all splits, in the order of the sources. */
  kept: Row[];
  quarantine: QuarantinedRow[];
}

let outputs = 0;

/** Freezes the files and cleans them, as the stages do. */
export async function clean(
  folder: Folder,
  files: Record<string, string | Uint8Array>,
  data: Partial<SpecInput['data']> = {},
  method: Method = 'sft',
): Promise<Cleaned> {
  const uris = await Promise.all(Object.entries(files).map(([name, content]) => folder.write(name, content)));
  const spec = dataSpec(data, uris);
  const store = createFileStore(join(folder.path, 'store'));
  const snapshot = await takeSnapshot(
    store,
    spec.sources,
    { examplesFolder: folder.path, readS3: async () => null },
    () => {},
  );
  const output = join(folder.path, `output-${outputs++}`);
  const result = await cleanRows(
    snapshot,
    (parts) => readParts(store, parts),
    { ...spec, method },
    output,
    () => {},
  );
  const rows = {
    train: await readRows<Row>(output, 'train'),
    validation: await readRows<Row>(output, 'validation'),
    test: await readRows<Row>(output, 'test'),
  };
  const kept = Object.values(rows)
    .flat()
    .toSorted((a, b) => a.src.source - b.src.source || a.src.line - b.src.line);
  return { ...result, snapshot, folder: output, rows, kept, quarantine: await readRows(output, 'quarantine') };
}

export async function* readParts(store: ObjectStore, parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield await getBlob(store, part);
}

export async function readRows<T>(folder: string, name: string): Promise<T[]> {
  const text = await readFile(join(folder, `${name}.jsonl`), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

export const chatLine = (question: unknown, answer: unknown): string =>
  JSON.stringify({
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  });
