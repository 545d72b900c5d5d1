// Grams with their rows on disk, in files by the gram's hash, so that a part of them is compared at a time.
// 12 bytes an entry, little endian: 64 bits of hash, and the row's number.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openBlockWriter } from '../range/block-writer.ts';

const ENTRY_BYTES = 12;
/** A billion grams are 190 MB in each. */
const PARTITIONS = 64;
/** Grams whose last rows are remembered, to tell which ones everybody has. */
const HOT_GRAMS = 65_536;

export interface GramFiles {
  /** Calls for one row follow one another. */
  add(high: number, low: number, row: number): void;
  close(): void;
  readonly paths: string[];
  readonly entries: number;
}

/** @param rowsMax rows of a gram that are written at least; of one that has many more most are left out */
export function openGramFiles(folder: string, name: string, rowsMax = Number.POSITIVE_INFINITY): GramFiles {
  const paths = Array.from({ length: PARTITIONS }, (_, i) => join(folder, `${name}-${i}.bin`));
  const writers = paths.map(openBlockWriter);
  const isHot = createHotGrams(rowsMax);
  let entries = 0;
  return {
    paths,
    get entries() {
      return entries;
    },
    add(high, low, row) {
      if (isHot(high, low, row)) return;
      // The filters use the low bits of this hash.
      const writer = writers[high >>> 26] as (typeof writers)[number];
      const { block, at } = writer.reserve(ENTRY_BYTES);
      block.writeInt32LE(high, at);
      block.writeInt32LE(low, at + 4);
      block.writeUInt32LE(row, at + 8);
      writer.advance(ENTRY_BYTES);
      entries++;
    },
    close() {
      for (const writer of writers) writer.close();
    },
  };
}

/** Whether the gram stands in this row already, or was seen in enough rows lately. */
function createHotGrams(rowsMax: number): (high: number, low: number, row: number) => boolean {
  const highs = new Int32Array(HOT_GRAMS);
  const lows = new Int32Array(HOT_GRAMS);
  const lastRow = new Int32Array(HOT_GRAMS).fill(-1);
  const rows = new Uint8Array(HOT_GRAMS);
  return (high, low, row) => {
    const at = low & (HOT_GRAMS - 1);
    if (lastRow[at] !== -1 && highs[at] === high && lows[at] === low) {
      if (lastRow[at] === row || (rows[at] as number) >= rowsMax) return true;
      rows[at] = Math.min(255, (rows[at] as number) + 1);
    } else {
      highs[at] = high;
      lows[at] = low;
      rows[at] = 1;
    }
    lastRow[at] = row;
    return false;
  };
}

export interface GramEntries {
  readonly count: number;
  high(entry: number): number;
  low(entry: number): number;
  row(entry: number): number;
}

export async function readGramFile(path: string): Promise<GramEntries> {
  const bytes = await readFile(path);
  return {
    count: bytes.length / ENTRY_BYTES,
    high: (entry) => bytes.readInt32LE(entry * ENTRY_BYTES),
    low: (entry) => bytes.readInt32LE(entry * ENTRY_BYTES + 4),
    row: (entry) => bytes.readUInt32LE(entry * ENTRY_BYTES + 8),
  };
}
