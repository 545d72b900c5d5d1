// Names the rows that may have words in a row in common with a row of the other side: those that have a fingerprint in common with one.
// Memory: a bit a row, and a table of the fingerprints of held-out rows that are compared at a time.
import { join } from 'node:path';
import type { CleanedPiece } from '../../../contracts/ranges.ts';
import { getFile } from '../../../storage/file-set.ts';
import type { ObjectStore } from '../../../storage/object-store.ts';
import { RANGE_FILES } from '../../range/options.ts';
import { readRowLists, type TakeList } from '../../range/row-lists.ts';
import { FATE, isHeldOut } from '../fates.ts';
import { fileOf } from '../indexes.ts';
import { createPrintTable, type PrintTable } from './print-table.ts';
import { createRowSet, type RowSet } from './row-set.ts';

/** Fingerprints of held-out rows that are compared at a time: a table of 42 MB. Those of 1 GB of rows, a tenth of them held out. */
const PRINTS_MAX = 4_000_000;

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
  const each = await openPrints(input);
  let heldOut = 0;
  await each((row, prints) => {
    if (isHeldOut(fates[row] as number)) heldOut += prints.length;
  });
  const rounds = Math.ceil(heldOut / printsMax);
  for (let round = 0; round < rounds; round++) {
    const table = createPrintTable(heldOut / rounds);
    const eachNow = (side: (fate: number) => boolean, take: (print: number, row: number) => void) =>
      each((row, prints) => {
        if (!side(fates[row] as number)) return;
        for (let i = 0; i < prints.length; i++)
          if (roundOf(prints[i] as number, rounds) === round) take(prints[i] as number, row);
      });
    await eachNow(isHeldOut, table.add);
    await eachNow(isTrained, (print, row) => {
      if (table.mark(print)) rows.add(row);
    });
    await eachNow(isHeldOut, (print, row) => {
      if (table.isMarked(print)) rows.add(row);
    });
    table.eachMarked(shared.add);
  }
  return { rows, prints: shared };
}

const isTrained = (fate: number) => fate === FATE.train;

/** An earlier release cleaned pieces without them. */
function hasPrints({ files }: CleanedPiece): boolean {
  return files.files.some(({ path }) => path === RANGE_FILES.prints);
}

/** By bits that the table does not place them by. */
function roundOf(print: number, rounds: number): number {
  return ((print >>> 16) * rounds) >>> 16;
}

/** Each call reads the fingerprints of all rows, by the rows' numbers among those of all pieces. */
async function openPrints({ store, pieces, folder, signal }: CandidateInput) {
  const files: { path: string; first: number }[] = [];
  let first = 0;
  for (const [i, { counts, files: set }] of pieces.entries()) {
    const path = join(folder, `prints-${i}.bin`);
    await getFile(store, fileOf(set, RANGE_FILES.prints), path, signal);
    files.push({ path, first });
    first += counts.kept;
  }
  return async (take: TakeList) => {
    for (const file of files) await readRowLists(file.path, (row, prints) => take(file.first + row, prints), signal);
  };
}
