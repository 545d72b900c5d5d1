// Names the rows that may have words in a row in common with a row of the other side: those that have a fingerprint in common with one.
// Of the training rows' fingerprints a filter leaves those that held-out rows may have, too; these are compared a part at a time.
// Memory: a bit a row, a filter of at most 64 MB, then a table of a part's fingerprints and one of those that both sides have.
import { join } from 'node:path';
import type { CleanedPiece } from '../../../contracts/ranges.ts';
import { getFile } from '../../../storage/file-set.ts';
import type { ObjectStore } from '../../../storage/object-store.ts';
import { RANGE_FILES } from '../../range/options.ts';
import { readRowLists, type TakeList } from '../../range/row-lists.ts';
import { FATE, isHeldOut } from '../fates.ts';
import { fileOf } from '../indexes.ts';
import { openPrintFiles } from './print-files.ts';
import { PrintFilter } from './print-filter.ts';
import { createPrintTable, type PrintTable } from './print-table.ts';
import { createRowSet, type RowSet } from './row-set.ts';

/** Fingerprints of held-out rows in a part: a table of 21 MB. Those of 500 MB of rows, a tenth of them held out. */
const PRINTS_MAX = 2_000_000;

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
  const { pieces, fates, folder, signal, printsMax = PRINTS_MAX } = input;
  if (!pieces.every(hasPrints)) return { rows: { has: () => true }, prints: null };
  const each = await openPrints(input);
  const expected = expectedPrints(input);
  const known = PrintFilter.sizedFor(expected);
  const parts = Math.max(1, Math.ceil(expected / printsMax));
  const heldOut = openPrintFiles(folder, 'held-out', parts);
  await each((row, prints, from, to) => {
    if (!isHeldOut(fates[row] as number)) return;
    for (let i = from; i < to; i++) known.add(prints[i] as number);
    heldOut.add(row, prints, from, to);
  });
  heldOut.close();
  const trained = openPrintFiles(folder, 'trained', parts);
  await each((row, prints, from, to) => {
    if (fates[row] === FATE.train) trained.add(row, prints, from, to, known);
  });
  trained.close();
  const found = { rows: createRowSet(fates.length), prints: createPrintTable(0) };
  const table = createPrintTable(Math.max(...heldOut.counts));
  for (const [i, path] of trained.paths.entries()) {
    await addShared({ trained: path, heldOut: heldOut.paths[i] as string }, table, found, signal);
    table.clear();
  }
  return found;
}

/** @param table an empty one, which is used */
async function addShared(
  { trained, heldOut }: { trained: string; heldOut: string },
  table: PrintTable,
  { rows, prints: shared }: { rows: RowSet; prints: PrintTable },
  signal: AbortSignal,
): Promise<void> {
  const each = (path: string, take: (print: number, row: number) => void) =>
    readRowLists(
      path,
      (row, prints, from, to) => {
        for (let i = from; i < to; i++) take(prints[i] as number, row);
      },
      signal,
    );
  await each(heldOut, table.add);
  await each(trained, (print, row) => {
    if (table.mark(print)) rows.add(row);
  });
  await each(heldOut, (print, row) => {
    if (table.isMarked(print)) rows.add(row);
  });
  table.eachMarked(shared.add);
}

/** Of held-out rows, if they have as many as others. */
function expectedPrints({ pieces, fates }: CandidateInput): number {
  let heldOut = 0;
  for (const fate of fates) if (isHeldOut(fate)) heldOut++;
  const sizeBytes = pieces.reduce((sum, { files }) => sum + fileOf(files, RANGE_FILES.prints).size, 0);
  return ((sizeBytes / Int32Array.BYTES_PER_ELEMENT) * heldOut) / Math.max(1, fates.length);
}

/** An earlier release cleaned pieces without them. */
function hasPrints({ files }: CleanedPiece): boolean {
  return files.files.some(({ path }) => path === RANGE_FILES.prints);
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
    for (const file of files)
      await readRowLists(file.path, (row, prints, from, to) => take(file.first + row, prints, from, to), signal);
  };
}
