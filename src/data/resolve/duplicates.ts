// Finds exact duplicates over all ranges: of the rows with one id the first in source order stays. Memory: one partition of the ids.
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { ID_BYTES, INDEX_BYTES } from '../range/index-file.ts';
import { FATE } from './fates.ts';
import { type RowIndex, readBlocks } from './indexes.ts';
import { createKeyTable } from './key-table.ts';

/** Rows of a partition: a table of 100 MB at most. */
const PARTITION_ROWS_MAX = 2_000_000;

/** A row in a partition's file: its id, and its number as a double. */
const ENTRY_BYTES = ID_BYTES + 8;
/** Entries gathered before they are written. */
const BLOCK_ENTRIES = 4096;

export interface DuplicateOptions {
  folder: string;
  signal: AbortSignal;
  /** For tests; otherwise `PARTITION_ROWS_MAX`. */
  partitionRows?: number;
}

/** Marks the duplicates among the fates. @param indexes in the order in which a row comes before its copies */
export async function markDuplicates(indexes: RowIndex[], fates: Uint8Array, options: DuplicateOptions): Promise<void> {
  const count = Math.max(1, Math.ceil(fates.length / (options.partitionRows ?? PARTITION_ROWS_MAX)));
  if (count === 1) return await markInOnePass(indexes, fates, options.signal);
  const paths = Array.from({ length: count }, (_, i) => join(options.folder, `ids-${i}.bin`));
  await writePartitions(indexes, paths, options.signal);
  for (const path of paths) await markPartition(path, fates, options.signal);
}

async function markInOnePass(indexes: RowIndex[], fates: Uint8Array, signal: AbortSignal): Promise<void> {
  const seen = createKeyTable(ID_BYTES, fates.length);
  for await (const { first, rows, bytes } of readBlocks(indexes, signal))
    for (let row = 0; row < rows; row++)
      if (!seen.add(bytes, row * INDEX_BYTES, 0)) fates[first + row] = FATE.duplicate;
}

async function writePartitions(indexes: RowIndex[], paths: string[], signal: AbortSignal): Promise<void> {
  const writers = await Promise.all(paths.map(openEntries));
  try {
    for await (const { first, rows, bytes } of readBlocks(indexes, signal)) {
      for (let row = 0; row < rows; row++) {
        const at = row * INDEX_BYTES;
        // By bytes that the table's hash does not use.
        const writer = writers[(bytes.readUInt16LE(at + ID_BYTES - 2) * paths.length) >>> 16] as EntryWriter;
        if (writer.add(bytes, at, first + row)) await writer.flush();
      }
    }
  } finally {
    for (const writer of writers) await writer.close();
  }
}

async function markPartition(path: string, fates: Uint8Array, signal: AbortSignal): Promise<void> {
  const file = await open(path, 'r');
  try {
    const entries = (await file.stat()).size / ENTRY_BYTES;
    const seen = createKeyTable(ID_BYTES, entries);
    const block = Buffer.allocUnsafeSlow(BLOCK_ENTRIES * ENTRY_BYTES);
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(block, 0, block.length, null);
      if (bytesRead === 0) break;
      for (let at = 0; at < bytesRead; at += ENTRY_BYTES)
        if (!seen.add(block, at, 0)) fates[block.readDoubleLE(at + ID_BYTES)] = FATE.duplicate;
    }
  } finally {
    await file.close();
  }
}

interface EntryWriter {
  /** True when the block is full, and `flush` must be awaited. */
  add(bytes: Buffer, at: number, number: number): boolean;
  flush(): Promise<void>;
  close(): Promise<void>;
}

async function openEntries(path: string): Promise<EntryWriter> {
  const file = await open(path, 'w');
  const block = Buffer.allocUnsafeSlow(BLOCK_ENTRIES * ENTRY_BYTES);
  let used = 0;
  const flush = async () => {
    await file.writeFile(block.subarray(0, used));
    used = 0;
  };
  return {
    add(bytes, at, number) {
      bytes.copy(block, used, at, at + ID_BYTES);
      block.writeDoubleLE(number, used + ID_BYTES);
      used += ENTRY_BYTES;
      return used === block.length;
    },
    flush,
    async close() {
      await flush();
      await file.close();
    },
  };
}
