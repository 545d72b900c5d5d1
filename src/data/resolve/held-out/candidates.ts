// Names the rows that may have words in a row in common with a row of the other side: those that have a fingerprint in common with one.
// Memory: a bit a row, and a table of the fingerprints of held-out rows that are compared at a time.
import { join } from 'node:path';
import type { CleanedPiece } from '../../../contracts/ranges.ts';
import { getFile } from '../../../storage/file-set.ts';
import type { ObjectStore } from '../../../storage/object-store.ts';
import { RANGE_FILES } from '../../range/options.ts';
import { HeldLists, readRowLists, type TakeList } from '../../range/row-lists.ts';
import { FATE, isHeldOut } from '../fates.ts';
import { fileOf } from '../indexes.ts';
import { createPrintTable, type PrintTable } from './print-table.ts';
import { createRowSet, type RowSet } from './row-set.ts';

/** Fingerprints of held-out rows that are compared at a time: 60 MB with the table. Those of 1 GB of rows, a tenth of them held out. */
const PRINTS_MAX = 4_000_000;
const PRINT_BYTES = 4;

export interface CandidateInput {
  store: ObjectStore;
  pieces: CleanedPiece[];
  fates: Uint8Array;
  folder: string;
  signal: AbortSignal;
  /** For tests; otherwise `PRINTS_MAX`. */
  printsMax?: number;
}

export interface Candidates {
  rows: Pick<RowSet, 'has'>;
  /** The fingerprints that both sides have; null = nobody knows them. */
  prints: PrintTable | null;
}

export async function findCandidates(input: CandidateInput): Promise<Candidates> {
  const { pieces, fates, printsMax = PRINTS_MAX } = input;
  if (!pieces.every(hasPrints)) return { rows: { has: () => true }, prints: null };
  const rows = createRowSet(fates.length);
  const shared = createPrintTable(0);
  const { each, count } = await openPrints(input);
  const rounds = Math.max(1, Math.ceil((count * shareOfHeldOut(fates)) / printsMax));
  for (let round = 0; round < rounds; round++) {
    const isNow = (print: number) => roundOf(print, rounds) === round;
    const { table, heldOut } = await holdPrints(each, fates, isNow);
    await each((row, prints, from, to) => {
      if (fates[row] !== FATE.train) return;
      let isShared = false;
      for (let i = from; i < to; i++) if (table.mark(prints[i] as number)) isShared = true;
      if (isShared) rows.add(row);
    });
    heldOut.each((row, prints, from, to) => {
      for (let i = from; i < to; i++) if (table.isMarked(prints[i] as number)) rows.add(row);
    });
    table.eachMarked(shared.add);
  }
  return { rows, prints: shared };
}

type EachPrints = (take: TakeList) => Promise<void>;

/** The fingerprints of held-out rows, as a table and by the rows. */
async function holdPrints(each: EachPrints, fates: Uint8Array, isNow: (print: number) => boolean) {
  const heldOut = new HeldLists();
  await each((row, prints, from, to) => {
    if (isHeldOut(fates[row] as number)) heldOut.add(row, prints, from, to, isNow);
  });
  const table = createPrintTable(heldOut.count);
  heldOut.each((_row, prints, from, to) => {
    for (let i = from; i < to; i++) table.add(prints[i] as number);
  });
  return { table, heldOut };
}

function shareOfHeldOut(fates: Uint8Array): number {
  let heldOut = 0;
  for (const fate of fates) if (isHeldOut(fate)) heldOut++;
  return heldOut / Math.max(1, fates.length);
}

/** An earlier release cleaned pieces without them. */
function hasPrints({ files }: CleanedPiece): boolean {
  return files.files.some(({ path }) => path === RANGE_FILES.prints);
}

/** By bits that the table does not place them by. */
function roundOf(print: number, rounds: number): number {
  return ((print >>> 16) * rounds) >>> 16;
}

/** Each call reads the fingerprints of all rows, by the rows' numbers among those of all pieces; `count` of them, more or less. */
async function openPrints({
  store,
  pieces,
  folder,
  signal,
}: CandidateInput): Promise<{ each: EachPrints; count: number }> {
  const files: { path: string; first: number }[] = [];
  let [first, count] = [0, 0];
  for (const [i, { counts, files: set }] of pieces.entries()) {
    const path = join(folder, `prints-${i}.bin`);
    const stored = fileOf(set, RANGE_FILES.prints);
    await getFile(store, stored, path, signal);
    files.push({ path, first });
    count += stored.size / PRINT_BYTES;
    first += counts.kept;
  }
  const each = async (take: TakeList) => {
    for (const file of files)
      await readRowLists(file.path, (row, prints, from, to) => take(file.first + row, prints, from, to), signal);
  };
  return { each, count };
}
