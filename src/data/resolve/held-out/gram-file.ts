// Grams with their rows on disk, in files by the gram's hash, so that a part of them is compared at a time.
// 12 bytes an entry, little endian: 64 bits of hash, and the row's number.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openBlockWriter } from '../../range/block-writer.ts';

const ENTRY_BYTES = 12;
/** A billion grams are 190 MB in each. */
const PARTITIONS = 64;
/** Gathered for each before it is written. */
const BLOCK_BYTES = 128 * 1024;

export interface GramFiles {
  /** Calls for one row follow one another. */
  add(high: number, low: number, row: number): void;
  close(): void;
  readonly paths: string[];
  readonly entries: number;
}

export function openGramFiles(folder: string, name: string): GramFiles {
  const paths = Array.from({ length: PARTITIONS }, (_, i) => join(folder, `${name}-${i}.bin`));
  const writers = paths.map((path) => openBlockWriter(path, BLOCK_BYTES));
  let entries = 0;
  return {
    paths,
    get entries() {
      return entries;
    },
    add(high, low, row) {
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
