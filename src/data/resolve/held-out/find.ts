// Looks for text of the held-out rows in the training rows: every n words in a row that both have. What more than ten training rows
// have is their template, and told apart (the rule of GPT-3 and of lm-evaluation-harness). Exact but for collisions of 64 bits.
// Each row is read twice, in threads: the words of the held-out ones fill two filters, then the training ones are looked up in them.
// Memory: three filters of at most 64 MB, a part of 32 MiB and a heap for each thread, and of what passed the filters one file
// of 64. On disk: 4 bytes for each word of the held-out rows, 12 for each gram that both may have.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CleanedPiece, HeldOutText } from '../../../contracts/ranges.ts';
import type { ObjectStore } from '../../../storage/object-store.ts';
import { Grams } from '../../near/grams.ts';
import { RANGE_FILES } from '../../range/options.ts';
import { slicesOf } from '../../readers.ts';
import { readSource } from '../../source-bytes.ts';
import { FATE, isHeldOut } from '../fates.ts';
import { fileOf } from '../indexes.ts';
import { type GramEntries, openGramFiles, readGramFile } from './gram-file.ts';
import { GramFilter } from './gram-filter.ts';
import { blockWords, PieceScan, type ScanOptions, type Side, type TakeFound, TEMPLATE_ROWS } from './scan.ts';
import { eachText, openTextFile, readTextFile } from './text-file.ts';
import { openScanThreads, type PieceToScan, type ScanThreads } from './threads.ts';

/** Bytes of a row for each gram: words have more on average in every script of which they are no single characters. */
const GRAM_BYTES = 4;
/** From here on there are threads, bytes: starting them takes longer than looking at less. */
const THREAD_BYTES_MIN = 8 * 1024 * 1024;

export interface HeldOutTextInput {
  store: ObjectStore;
  pieces: CleanedPiece[];
  fates: Uint8Array;
  /** Words in a row. */
  words: number;
  folder: string;
  signal: AbortSignal;
  /** Rows looked at so far, once for each side. */
  onRows(rows: number): void;
  /** For tests; otherwise `THREAD_BYTES_MIN`. */
  threadBytesMin?: number;
}

export interface HeldOutTextFound {
  counts: Omit<HeldOutText, 'dropped'>;
  /** Calls back with each training row that shares text with a held-out one. */
  eachLeak(take: (row: number) => void): void;
}

export async function findHeldOutText(input: HeldOutTextInput): Promise<HeldOutTextFound> {
  const folder = join(input.folder, 'grams');
  await mkdir(folder, { recursive: true });
  const grams = heldOutGrams(input);
  const filters = { known: GramFilter.sizedFor(grams), knownBlocks: GramFilter.sizedFor(grams) };
  const [known, knownBlocks] = [filters.known.memory, filters.knownBlocks.memory];
  const scan = openScan(input, { words: input.words, known, knownBlocks });
  try {
    const texts = await gatherHeldOut(input, join(folder, 'held-out.words'), filters, scan);
    return await find(input, { folder, texts, both: GramFilter.sizedFor(grams / 4) }, scan);
  } finally {
    await scan.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Leaves their texts in the file. */
async function gatherHeldOut(
  input: HeldOutTextInput,
  path: string,
  { known, knownBlocks }: { known: GramFilter; knownBlocks: GramFilter },
  scan: ScanThreads,
): Promise<string> {
  const [grams, blocks] = [new Grams(input.words), new Grams(blockWords(input.words))];
  const texts = openTextFile(path);
  await scan.scan(piecesWith(input, 'held-out'), (found) => {
    texts.add(found);
    eachText(found, (words) => {
      addAll(grams, words, known);
      addAll(blocks, words, knownBlocks);
    });
  });
  texts.close();
  return path;
}

function addAll(grams: Grams, words: Int32Array, filter: GramFilter): void {
  grams.read(words);
  for (let i = 0; i < grams.count; i++) filter.add(grams.highs[i] as number, grams.lows[i] as number);
}

interface Gathered {
  folder: string;
  /** File of the held-out texts. */
  texts: string;
  /** For the grams that both have. */
  both: GramFilter;
}

async function find(
  input: HeldOutTextInput,
  { folder, texts, both }: Gathered,
  scan: ScanThreads,
): Promise<HeldOutTextFound> {
  const trained = openGramFiles(folder, 'trained');
  await scan.scan(piecesWith(input, 'trained'), (found) => {
    for (let i = 0; i < found.length; i += 3) {
      const [high, low] = [found[i] as number, found[i + 1] as number];
      both.add(high, low);
      trained.add(high, low, found[i + 2] as number);
    }
  });
  trained.close();

  const heldOut = openGramFiles(folder, 'held-out');
  if (trained.entries > 0) await addShared(texts, new Grams(input.words), both, heldOut.add);
  heldOut.close();
  return await compareAll(input, trained.paths, heldOut.paths);
}

/** The grams of held-out rows that training rows may have, too. */
async function addShared(
  textPath: string,
  grams: Grams,
  both: GramFilter,
  add: (high: number, low: number, row: number) => void,
): Promise<void> {
  await readTextFile(textPath, (words, row) => {
    grams.read(words);
    for (let i = 0; i < grams.count; i++) {
      const [high, low] = [grams.highs[i] as number, grams.lows[i] as number];
      if (both.has(high, low)) add(high, low, row);
    }
  });
}

/** How many grams the held-out rows have at most, more or less. */
function heldOutGrams({ pieces, fates }: HeldOutTextInput): number {
  let [first, bytes] = [0, 0];
  for (const { counts, files } of pieces) {
    const wanted = fates.subarray(first, first + counts.kept).reduce((sum, fate) => sum + (isHeldOut(fate) ? 1 : 0), 0);
    first += counts.kept;
    if (wanted > 0) bytes += (fileOf(files, RANGE_FILES.rows).size * wanted) / counts.kept;
  }
  return Math.ceil(bytes / GRAM_BYTES);
}

/** Pieces without rows of that side are left out. */
function* piecesWith({ store, pieces, fates, onRows }: HeldOutTextInput, side: Side): Generator<PieceToScan> {
  const isWanted = side === 'held-out' ? isHeldOut : (fate: number) => fate === FATE.train;
  let first = 0;
  for (const { counts, files } of pieces) {
    // A copy, because a thread is given all memory that a view looks at.
    const own = fates.slice(first, first + counts.kept);
    onRows(first);
    if (own.some(isWanted))
      yield {
        rows: { side, first, fates: own },
        bytes: () => readSource(store, fileOf(files, RANGE_FILES.rows)),
      };
    first += counts.kept;
  }
}

function openScan({ pieces, signal, threadBytesMin = THREAD_BYTES_MIN }: HeldOutTextInput, options: ScanOptions) {
  const bytes = pieces.reduce((sum, { files }) => sum + fileOf(files, RANGE_FILES.rows).size, 0);
  return bytes >= threadBytesMin ? openScanThreads(options, signal) : createScan(options, signal);
}

/** Without a thread. */
function createScan(options: ScanOptions, signal: AbortSignal): ScanThreads {
  let take: TakeFound = () => undefined;
  const scan = new PieceScan(options, (found) => take(found));
  return {
    async scan(pieces, takeFound) {
      take = takeFound;
      for (const { rows, bytes } of pieces) {
        const piece = scan.open(rows);
        for await (const slice of slicesOf(bytes())) {
          signal.throwIfAborted();
          piece.push(slice);
          await nextTurn();
        }
        piece.end();
      }
    },
    close: async () => undefined,
  };
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
