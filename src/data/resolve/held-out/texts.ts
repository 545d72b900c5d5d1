// Gathers the words that are compared, of each side in a file: those around a fingerprint that both sides have. 4 bytes a word.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CleanedPiece } from '../../../contracts/ranges.ts';
import type { ObjectStore } from '../../../storage/object-store.ts';
import { free } from '../../../storage/own-memory.ts';
import { createLineCutter } from '../../lines.ts';
import { RowWords } from '../../near/row-words.ts';
import { Winnow } from '../../near/winnow.ts';
import { openRowLists } from '../../range/row-lists.ts';
import { rowsOf } from '../../range/rows-files.ts';
import type { RawRow } from '../../rows-read.ts';
import { readSource } from '../../source-bytes.ts';
import { isHeldOut } from '../fates.ts';
import type { Candidates } from './candidates.ts';
import type { PrintTable } from './print-table.ts';

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

/** Leaves the files at the paths. Pieces without such rows are not read. */
export async function gatherTexts(
  input: TextInput,
  { rows, prints }: Candidates,
  paths: Pick<Texts, 'heldOut' | 'trained'>,
): Promise<Texts> {
  const { store, pieces, fates, words: n, signal, onRows } = input;
  const [heldOut, trained] = [openRowLists(paths.heldOut), openRowLists(paths.trained)];
  const rowWords = new RowWords();
  const eachPassage = prints === null ? wholeText(n) : passages(n, prints);
  let heldOutWords = 0;
  let first = 0;
  try {
    for (const { counts, files } of pieces) {
      const end = first + counts.kept;
      let row = first;
      const takeLine = ({ source, from, to }: RawRow) => {
        const own = row++;
        if (!rows.has(own)) return;
        const isHeld = isHeldOut(fates[own] as number);
        const lists = isHeld ? heldOut : trained;
        const take = (passage: Int32Array) => {
          lists.add(own, passage);
          if (isHeld) heldOutWords += passage.length;
        };
        rowWords.eachText(source, from, to, (words) => eachPassage(words, take));
      };
      if (hasAny(rows, first, end)) await eachLine(readSource(store, rowsOf(files)), takeLine, signal);
      first = end;
      onRows(first);
    }
  } finally {
    heldOut.close();
    trained.close();
  }
  return { ...paths, heldOutWords };
}

type EachPassage = (words: Int32Array, take: (passage: Int32Array) => void) => void;

function wholeText(n: number): EachPassage {
  return (words, take) => {
    if (words.length >= n) take(words);
  };
}

/** What n words in a row that hold a run with such a fingerprint can reach, in as few pieces as there are. */
function passages(n: number, prints: PrintTable): EachPassage {
  const winnow = new Winnow(n);
  const before = n - winnow.runWords;
  return (words, take) => {
    winnow.clear();
    winnow.read(words);
    let [from, to] = [0, 0];
    for (let i = 0; i < winnow.count; i++) {
      if (!prints.has(winnow.prints[i] as number)) continue;
      const at = winnow.starts[i] as number;
      if (at - before > to && to > 0) {
        take(words.subarray(from, to));
        to = 0;
      }
      from = to === 0 ? Math.max(0, at - before) : Math.min(from, Math.max(0, at - before));
      to = Math.max(to, Math.min(words.length, at + n));
    }
    if (to > 0) take(words.subarray(from, to));
  };
}

function hasAny(rows: Candidates['rows'], first: number, end: number): boolean {
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
