// Looks for text of the held-out rows in the training rows: every n words in a row that both have. What more than ten training rows
// have is their template, and told apart (the rule of GPT-3 and of lm-evaluation-harness). Exact but for collisions of 64 bits.
// Memory: two filters of 64 MB at most, and of what passed them one file of 64; on disk 12 bytes for each gram that both may have.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CleanedPiece, HeldOutText } from '../../contracts/ranges.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { createLineCutter } from '../jsonl.ts';
import type { Content } from '../mapping.ts';
import { forEachBlock, forEachGram } from '../near/gram-table.ts';
import { createWordHasher } from '../near/words.ts';
import { RANGE_FILES } from '../range/options.ts';
import { slicesOf } from '../readers.ts';
import { ownTexts } from '../row-texts.ts';
import { readSource } from '../source-bytes.ts';
import { FATE, isHeldOut } from './fates.ts';
import { type GramEntries, openGramFiles, readGramFile } from './gram-file.ts';
import { createGramFilter } from './gram-filter.ts';
import { fileOf } from './indexes.ts';

/** Training rows that may share a gram before it is their template. */
const TEMPLATE_ROWS = 10;
/** Bytes of a row for each gram: words have more on average in every script of which they are no single characters. */
const GRAM_BYTES = 4;

export interface HeldOutTextInput {
  store: ObjectStore;
  pieces: CleanedPiece[];
  fates: Uint8Array;
  /** Words in a row. */
  words: number;
  folder: string;
  signal: AbortSignal;
  /** Rows looked at so far; the held-out ones are looked at twice. */
  onRows(rows: number): void;
}

export interface HeldOutTextFound {
  counts: Omit<HeldOutText, 'dropped'>;
  /** Calls back with each training row that shares text with a held-out one. */
  eachLeak(take: (row: number) => void): void;
}

export async function findHeldOutText(input: HeldOutTextInput): Promise<HeldOutTextFound> {
  const folder = join(input.folder, 'grams');
  await mkdir(folder, { recursive: true });
  try {
    return await find(input, folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function find(input: HeldOutTextInput, folder: string): Promise<HeldOutTextFound> {
  const isTrained = (fate: number) => fate === FATE.train;
  const grams = gramsOf(input, isHeldOut);
  const known = createGramFilter(grams);
  const knownBlocks = createGramFilter(grams);
  // n words in a row hold a whole block of these wherever the blocks begin.
  const blockWords = (input.words + 1) >> 1;
  await eachText(input, isHeldOut, (words) => {
    forEachGram(words, input.words, known.add);
    forEachGram(words, blockWords, knownBlocks.add);
  });

  const trained = openGramFiles(folder, 'trained', TEMPLATE_ROWS + 1);
  const both = createGramFilter(grams / 4);
  await eachText(input, isTrained, (words, row) => {
    let mayShare = false;
    forEachBlock(words, blockWords, (high, low) => {
      mayShare = knownBlocks.has(high, low);
      return mayShare;
    });
    if (!mayShare) return;
    forEachGram(words, input.words, (high, low) => {
      if (!known.has(high, low)) return;
      both.add(high, low);
      trained.add(high, low, row);
    });
  });
  trained.close();

  const heldOut = openGramFiles(folder, 'held-out');
  if (trained.entries > 0)
    await eachText(input, isHeldOut, (words, row) =>
      forEachGram(words, input.words, (high, low) => {
        if (both.has(high, low)) heldOut.add(high, low, row);
      }),
    );
  heldOut.close();
  return await compareAll(input, trained.paths, heldOut.paths);
}

/** How many grams such rows have at most, more or less. */
function gramsOf({ pieces, fates }: HeldOutTextInput, isWanted: (fate: number) => boolean): number {
  let [first, bytes] = [0, 0];
  for (const { counts, files } of pieces) {
    const wanted = fates.subarray(first, first + counts.kept).reduce((sum, fate) => sum + (isWanted(fate) ? 1 : 0), 0);
    first += counts.kept;
    if (wanted > 0) bytes += (fileOf(files, RANGE_FILES.rows).size * wanted) / counts.kept;
  }
  return Math.ceil(bytes / GRAM_BYTES);
}

/** The words are valid until it returns. */
type TakeText = (words: Int32Array, row: number) => void;

/** Reads the rows out of the store, piece by piece. */
async function eachText(
  { store, pieces, fates, signal, onRows }: HeldOutTextInput,
  isWanted: (fate: number) => boolean,
  take: TakeText,
): Promise<void> {
  const hashWords = createWordHasher();
  let first = 0;
  for (const { counts, files } of pieces) {
    let row = first;
    first += counts.kept;
    if (!fates.subarray(row, first).some(isWanted)) continue;
    const cutter = createLineCutter(Number.POSITIVE_INFINITY);
    const takeLine = ({ bytes }: { bytes: Buffer }) => {
      const own = row++;
      if (!isWanted(fates[own] as number)) return;
      for (const text of ownTexts(JSON.parse(bytes.toString('utf8')) as Content)) take(hashWords(text), own);
    };
    for await (const slice of slicesOf(readSource(store, fileOf(files, RANGE_FILES.rows)))) {
      signal.throwIfAborted();
      cutter.push(slice, takeLine);
      onRows(row);
      await nextTurn();
    }
    cutter.end(takeLine);
  }
}

async function compareAll(
  { fates, words, signal }: HeldOutTextInput,
  trained: string[],
  heldOut: string[],
): Promise<HeldOutTextFound> {
  const rows = {
    shared: createRowSet(fates.length),
    template: createRowSet(fates.length),
    leaks: createRowSet(fates.length),
  };
  for (const [i, path] of trained.entries()) {
    signal.throwIfAborted();
    compare(await readGramFile(path), await readGramFile(heldOut[i] as string), rows);
  }
  const count = { words, heldOut: 0, shared: 0, template: 0, trainRows: 0 };
  for (const [row, fate] of fates.entries()) {
    if (isHeldOut(fate)) count.heldOut++;
    if (rows.shared.has(row)) count.shared++;
    else if (rows.template.has(row)) count.template++;
    if (rows.leaks.has(row)) count.trainRows++;
  }
  const eachLeak = (take: (row: number) => void) => {
    for (let row = 0; row < fates.length; row++) if (rows.leaks.has(row)) take(row);
  };
  return { counts: count, eachLeak };
}

interface Compared {
  /** Held-out rows with text of a few training rows, and with text of many. */
  shared: RowSet;
  template: RowSet;
  /** Training rows with text of a held-out one. */
  leaks: RowSet;
}

function compare(trained: GramEntries, heldOut: GramEntries, { shared, template, leaks }: Compared): void {
  const table = createTrainedRows(trained);
  const isHeld = new Uint8Array(table.slots);
  for (let i = 0; i < heldOut.count; i++) {
    const slot = table.find(heldOut.high(i), heldOut.low(i));
    const rows = table.rowsAt(slot);
    if (rows === 0) continue;
    isHeld[slot] = 1;
    (rows > TEMPLATE_ROWS ? template : shared).add(heldOut.row(i));
  }
  for (let i = 0; i < trained.count; i++) {
    const slot = table.find(trained.high(i), trained.low(i));
    if (isHeld[slot] === 1 && table.rowsAt(slot) <= TEMPLATE_ROWS) leaks.add(trained.row(i));
  }
}

/** How many rows have each gram. Entries of a row stand before those of later rows. */
function createTrainedRows(entries: GramEntries) {
  let slots = 16;
  while (slots < 2 * entries.count) slots *= 2;
  /** Entry plus one; 0 = free. */
  const firstEntry = new Uint32Array(slots);
  const lastRow = new Uint32Array(slots);
  const rows = new Uint8Array(slots);
  const find = (high: number, low: number): number => {
    let slot = (high ^ low) & (slots - 1);
    for (let entry = firstEntry[slot] as number; entry !== 0; entry = firstEntry[slot] as number) {
      if (entries.high(entry - 1) === high && entries.low(entry - 1) === low) break;
      slot = (slot + 1) & (slots - 1);
    }
    return slot;
  };
  for (let i = 0; i < entries.count; i++) {
    const slot = find(entries.high(i), entries.low(i));
    if (firstEntry[slot] === 0) firstEntry[slot] = i + 1;
    else if (lastRow[slot] === entries.row(i)) continue;
    lastRow[slot] = entries.row(i);
    rows[slot] = Math.min(255, (rows[slot] as number) + 1);
  }
  return { slots, find, rowsAt: (slot: number) => rows[slot] as number };
}

interface RowSet {
  add(row: number): void;
  has(row: number): boolean;
}

/** A bit a row. */
function createRowSet(rows: number): RowSet {
  const bits = new Uint8Array(Math.ceil(rows / 8));
  return {
    add(row) {
      bits[row >>> 3] = (bits[row >>> 3] as number) | (1 << (row & 7));
    },
    has: (row) => ((bits[row >>> 3] as number) & (1 << (row & 7))) !== 0,
  };
}
