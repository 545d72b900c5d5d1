// The rows that a dataset, or a run that its gates stopped, did not take: read back one after the other, with their originals on request.
import {
  type CleanedPiece,
  CleanedRangeRecordSchema,
  type Preparation,
  PreparationSchema,
  RunRangesSchema,
} from '../contracts/ranges.ts';
import {
  type Dataset,
  DatasetSchema,
  type FileSet,
  FileSetSchema,
  type FrozenSource,
  type Snapshot,
} from '../contracts/records.ts';
import { type QuarantinedRow, QuarantinedRowSchema } from '../contracts/rows.ts';
import { getBlob, readStoredFile } from '../storage/file-set.ts';
import { keys } from '../storage/keys.ts';
import { type ObjectStore, PART_BYTES_MAX } from '../storage/object-store.ts';
import { readJson } from '../storage/record.ts';
import { createLineCutter } from './lines.ts';
import { addCounts } from './profile/row-sample.ts';
import { sourceNames } from './source-names.ts';

const QUARANTINE_FILE = 'quarantine.jsonl';

export interface Quarantine {
  /** Digest of the snapshot that the rows are of. */
  snapshot: string;
  /** Sets that each hold a part of it, in order. */
  files: FileSet[];
  /** By code. */
  dropped: Record<string, number>;
  /** Columns that nobody may see, or null where that is not known. */
  dropColumns: string[] | null;
}

/** The dataset with this digest or its start (at least 8 digits), or the newest of the run; null = there is none. */
export async function findDataset(store: ObjectStore, name: string): Promise<Dataset | null> {
  const byDigest = /^[0-9a-f]{8,64}$/.test(name) ? await store.list(keys.datasets(name)) : [];
  const found = byDigest.length > 0 ? byDigest : await store.list(keys.stages(name, 'preprocess'));
  const key = found.sort().at(-1);
  return key === undefined ? null : await readJson(store, key, DatasetSchema);
}

/** The card of a dataset, or of a run that a gate has stopped; null = there is none. */
export async function findCard(store: ObjectStore, name: string): Promise<FileSet | null> {
  const dataset = await findDataset(store, name);
  if (dataset !== null) return dataset.card ?? null;
  const key = (await store.list(keys.stoppedCards(name))).sort().at(-1);
  return key === undefined ? null : await readJson(store, key, FileSetSchema);
}

/** null = nothing of the run was cleaned. */
export async function findQuarantine(store: ObjectStore, name: string): Promise<Quarantine | null> {
  const dataset = await findDataset(store, name);
  if (dataset === null) return await findStopped(store, name);
  const { snapshot, files, accounts } = dataset;
  const card = dataset.card ? await readStoredFile(store, dataset.card, 'card.json') : null;
  const dropColumns =
    card === null ? null : ((JSON.parse(card.toString('utf8')) as { dropColumns?: string[] }).dropColumns ?? null);
  return { snapshot, files: [files], dropped: accounts.dropped, dropColumns };
}

/** Of a run that has no dataset: what its ranges left. */
async function findStopped(store: ObjectStore, run: string): Promise<Quarantine | null> {
  const cleaned = await findCleaned(store, run);
  if (cleaned === null) return null;
  const { spec, plan, pieces } = cleaned;
  return {
    ...{ snapshot: plan.snapshot, files: pieces.map(({ files }) => files) },
    dropped: pieces.reduce((sum, { counts }) => addCounts(sum, counts.dropped), {}),
    dropColumns: spec.data.dropColumns,
  };
}

/** What a run has cleaned, whether it went on or not; null = it has not come so far. */
async function findCleaned(
  store: ObjectStore,
  run: string,
): Promise<(Preparation & { pieces: CleanedPiece[] }) | null> {
  const key = (await store.list(keys.allRunRanges(run))).sort().at(-1);
  const ranges = key === undefined ? null : await readJson(store, key, RunRangesSchema);
  const preparation = ranges && (await readJson(store, keys.rangePlan(ranges.preparation), PreparationSchema));
  if (!ranges || !preparation) return null;
  const pieces: CleanedPiece[] = [];
  for (const digest of ranges.cleaned)
    pieces.push(...((await readJson(store, keys.cleanedRange(digest), CleanedRangeRecordSchema))?.pieces ?? []));
  return { ...preparation, pieces };
}

/** Memory: one part of a file. */
export async function* readQuarantine(store: ObjectStore, files: FileSet[]): AsyncGenerator<QuarantinedRow> {
  for (const set of files) {
    const cutter = createLineCutter(Number.POSITIVE_INFINITY);
    const lines: string[] = [];
    const take = ({ bytes }: { bytes: Buffer }) => void lines.push(bytes.toString('utf8'));
    for (const part of set.files.find(({ path }) => path === QUARANTINE_FILE)?.parts ?? []) {
      cutter.push(Buffer.from(await getBlob(store, part)), take);
      yield* parseLines(lines.splice(0));
    }
    cutter.end(take);
    yield* parseLines(lines);
  }
}

function* parseLines(lines: string[]): Generator<QuarantinedRow> {
  for (const line of lines) if (line !== '') yield QuarantinedRowSchema.parse(JSON.parse(line));
}

/** Reads rows as they stand in the snapshot; null where a row's place is not known. Rows of one part are best asked for in order. */
export function createOriginals(
  store: ObjectStore,
  { sources }: Snapshot,
): (row: QuarantinedRow) => Promise<string | null> {
  const byName = new Map(sourceNames(sources).map((name, i) => [name, sources[i] as FrozenSource]));
  let held: { digest: string; bytes: Uint8Array } | null = null;
  const partOf = async (digest: string) => {
    if (held?.digest !== digest) held = { digest, bytes: await getBlob(store, digest) };
    return held.bytes;
  };
  return async ({ source, byteOffset, byteLength }) => {
    const parts = byName.get(source)?.parts;
    if (parts === undefined || byteOffset === undefined || byteLength === undefined) return null;
    const pieces: Uint8Array[] = [];
    const end = byteOffset + byteLength;
    for (let at = byteOffset; at < end; at = partStart(at) + PART_BYTES_MAX) {
      const digest = parts[Math.floor(at / PART_BYTES_MAX)];
      if (digest === undefined) break;
      pieces.push((await partOf(digest)).slice(at - partStart(at), end - partStart(at)));
    }
    return Buffer.concat(pieces)
      .toString('utf8')
      .replace(/\r?\n$/, '');
  };
}

function partStart(offset: number): number {
  return offset - (offset % PART_BYTES_MAX);
}
