// What the tests of `src/data` start from: bytes in pieces, a temporary folder, a snapshot of files, a seeded generator.
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AnnealError } from '../../src/contracts/failure.ts';
import type { Snapshot } from '../../src/contracts/records.ts';
import type { Method, QuarantinedRow, Row } from '../../src/contracts/rows.ts';
import { parseSpec, type Spec, type SpecInput } from '../../src/contracts/spec.ts';
import type { PreparationHost } from '../../src/data/preparation/host.ts';
import type { RangeLimits } from '../../src/data/preparation/plan.ts';
import { type Prepared, prepareRows } from '../../src/data/preparation/prepare.ts';
import { mergeQuarantine } from '../../src/data/preparation/quarantine.ts';
import { repeatOf } from '../../src/data/preparation/snapshots.ts';
import { writeSplits } from '../../src/data/preparation/split-rows.ts';
import { takeSnapshot } from '../../src/data/snapshot.ts';
import { getBlob } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';

export { seededRandom as createRandom } from '../../src/evaluation/seeded-random.ts';

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

/** Without a gate for dirty data, unless one is given: most tests' data are so on purpose. */
export function specOf(data: Partial<SpecInput['data']>, uris: string[] = ['x'], method: Method = 'sft'): Spec {
  const sources = uris.map((uri) => ({ uri }));
  return parseSpec({
    name: 'test',
    data: { sources, gates: { maxQuarantined: 1 }, ...data },
    train: { method },
    until: 'preprocess',
  });
}

export function dataSpec(data: Partial<SpecInput['data']>, uris?: string[]): Spec['data'] {
  return specOf(data, uris).data;
}

export interface Cleaned extends Prepared {
  snapshot: Snapshot;
  folder: string;
  notes: string[];
  rows: Record<'train' | 'validation' | 'test', Row[]>;
  /** Of all splits, in the order of the sources. */
  kept: Row[];
  quarantine: QuarantinedRow[];
}

/** Cuts whatever it finds into ranges of about so many bytes. */
export const smallRanges = (bytes: number): RangeLimits => ({
  ...{ bytes, bytesMax: 2 * bytes, align: 1, count: 1_000, pieces: 250 },
});

interface CleanOptions {
  limits?: RangeLimits;
  partitionRows?: number;
  signal?: AbortSignal;
}

let outputs = 0;

export function hostIn(folder: string, signal = new AbortController().signal): PreparationHost {
  return {
    store: createFileStore(join(folder, 'store')),
    folder: join(folder, `work-${outputs++}`),
    sources: { examplesFolder: folder, readS3: async () => null },
    pseudonymKey: null,
    signal,
    report: () => {},
  };
}

/** Freezes the files and cleans them, as the stages do up to the tokeniser. @throws AnnealError where a gate fails. */
export async function clean(
  folder: Folder,
  files: Record<string, string | Uint8Array>,
  data: Partial<SpecInput['data']> = {},
  method: Method = 'sft',
  { signal, ...options }: CleanOptions = {},
): Promise<Cleaned> {
  const uris = await Promise.all(Object.entries(files).map(([name, content]) => folder.write(name, content)));
  const spec = specOf(data, uris, method);
  const host = hostIn(folder.path, signal);
  const snapshot = await takeSnapshot(host.store, spec, host.sources, () => {});
  return await cleanSnapshot(folder, spec, snapshot, host, options);
}

export async function cleanSnapshot(
  folder: Folder,
  spec: Spec,
  snapshot: Snapshot,
  host: PreparationHost,
  options: Omit<CleanOptions, 'signal'> = {},
): Promise<Cleaned> {
  const prepared = await prepareRows(host, { spec, snapshot: snapshot.digest }, options);
  const { resolution } = prepared;
  if (resolution.blocked !== null) throw new AnnealError('data_rejected', resolution.blocked);
  const output = join(folder.path, `output-${outputs++}`);
  const rows: Cleaned['rows'] = { train: [], validation: [], test: [] };
  let first = 0;
  for (const [range, { length }] of prepared.plan.ranges.entries()) {
    const pieces = prepared.pieces.slice(first, first + length);
    first += length;
    const target = join(output, String(range));
    await mkdir(target, { recursive: true });
    await writeSplits({
      ...{ store: host.store, folder: target, quarantine: join(target, 'quarantine.jsonl'), snapshot, pieces },
      fates: resolution.fates[range] as (typeof resolution.fates)[number],
      repeats: pieces.map(({ source }) => repeatOf(spec, snapshot, source)),
      signal: host.signal,
    });
    for (const split of ['train', 'validation', 'test'] as const)
      rows[split].push(...(await readRows<Row>(target, split)));
  }
  await mergeQuarantine(
    host.store,
    { pieces: [prepared.pieces], tokenised: [] },
    output,
    join(output, 'quarantine.jsonl'),
    host.signal,
  );
  const kept = Object.values(rows)
    .flat()
    .toSorted((a, b) => a.src.source - b.src.source || a.src.line - b.src.line);
  const { notes } = resolution;
  return { ...prepared, snapshot, folder: output, notes, rows, kept, quarantine: await readRows(output, 'quarantine') };
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
