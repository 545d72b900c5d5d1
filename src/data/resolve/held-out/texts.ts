// Gathers the words of the rows that are compared, of each side in a file: 4 bytes a word.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CleanedPiece } from '../../../contracts/ranges.ts';
import type { ObjectStore } from '../../../storage/object-store.ts';
import { free } from '../../../storage/own-memory.ts';
import { createLineCutter } from '../../lines.ts';
import { RowWords } from '../../near/row-words.ts';
import { RANGE_FILES } from '../../range/options.ts';
import { openRowLists } from '../../range/row-lists.ts';
import type { RawRow } from '../../rows-read.ts';
import { readSource } from '../../source-bytes.ts';
import { isHeldOut } from '../fates.ts';
import { fileOf } from '../indexes.ts';
import type { RowSet } from './row-set.ts';

/** Bytes looked at before others have their turn: about 2 ms. */
const SLICE_BYTES = 1024 * 1024;

export interface TextInput {
  store: ObjectStore;
  pieces: CleanedPiece[];
  fates: Uint8Array;
  /** Words in a row: shorter texts are left out. */
  words: number;
  signal: AbortSignal;
  /** Rows that were looked at or passed over so far. */
  onRows(rows: number): void;
}

export interface Texts {
  /** Lists of words by row. */
  heldOut: string;
  trained: string;
  /** Words of the held-out ones. */
  heldOutWords: number;
}

/** Leaves files in the folder. Pieces without such rows are not read. */
export async function gatherTexts(input: TextInput, rows: RowSet, paths: Pick<Texts, 'heldOut' | 'trained'>) {
  const { store, pieces, fates, words: n, signal, onRows } = input;
  const [heldOut, trained] = [openRowLists(paths.heldOut), openRowLists(paths.trained)];
  const rowWords = new RowWords();
  let heldOutWords = 0;
  let first = 0;
  for (const { counts, files } of pieces) {
    const end = first + counts.kept;
    let row = first;
    const takeLine = ({ source, from, to }: RawRow) => {
      const own = row++;
      if (!rows.has(own)) return;
      const isHeld = isHeldOut(fates[own] as number);
      const lists = isHeld ? heldOut : trained;
      rowWords.eachText(source, from, to, (words) => {
        if (words.length < n) return;
        lists.add(own, words);
        if (isHeld) heldOutWords += words.length;
      });
    };
    if (hasAny(rows, first, end)) await eachLine(readSource(store, fileOf(files, RANGE_FILES.rows)), takeLine, signal);
    first = end;
    onRows(first);
  }
  heldOut.close();
  trained.close();
  return { ...paths, heldOutWords };
}

function hasAny(rows: RowSet, first: number, end: number): boolean {
  for (let row = first; row < end; row++) if (rows.has(row)) return true;
  return false;
}

async function eachLine(
  parts: AsyncIterable<Uint8Array>,
  take: (row: RawRow) => void,
  signal: AbortSignal,
): Promise<void> {
  const lines = createLineCutter(Number.POSITIVE_INFINITY);
  for await (const part of parts) {
    const bytes = Buffer.from(part.buffer, part.byteOffset, part.byteLength);
    for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
      signal.throwIfAborted();
      lines.push(bytes.subarray(at, at + SLICE_BYTES), take);
      await nextTurn();
    }
    free(part);
  }
  lines.end(take);
}
