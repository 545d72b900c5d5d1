// The indexes of all cleaned pieces, read one after the other as often as needed. Memory: one block.
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { CleanedPiece } from '../../contracts/ranges.ts';
import type { FileSet } from '../../contracts/records.ts';
import { getFile } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { INDEX_BYTES } from '../range/index-file.ts';
import { RANGE_FILES } from '../range/options.ts';

/** Rows read at once. */
export const BLOCK_ROWS = 32_768;

export interface RowIndex {
  source: number;
  /** Number of its first row among those of all pieces. */
  first: number;
  path: string;
}

/** Consecutive rows of one piece. */
export interface IndexBlock {
  source: number;
  /** Number of the block's first row among those of all pieces. */
  first: number;
  rows: number;
  /** `INDEX_BYTES` a row; valid until the next block is asked for. */
  bytes: Buffer;
}

export async function fetchIndexes(
  store: ObjectStore,
  pieces: CleanedPiece[],
  folder: string,
  signal: AbortSignal,
): Promise<RowIndex[]> {
  const indexes: RowIndex[] = [];
  let first = 0;
  for (const [i, { source, counts, files }] of pieces.entries()) {
    const path = join(folder, `index-${i}.bin`);
    await getFile(store, fileOf(files, RANGE_FILES.index), path, signal);
    indexes.push({ source, first, path });
    first += counts.kept;
  }
  return indexes;
}

export function fileOf(set: FileSet, path: string): FileSet['files'][number] {
  const file = set.files.find((found) => found.path === path);
  if (file === undefined) throw new Error(`file set ${set.digest} has no ${path}`);
  return file;
}

export async function* readBlocks(indexes: RowIndex[], signal: AbortSignal): AsyncGenerator<IndexBlock> {
  const bytes = Buffer.allocUnsafeSlow(BLOCK_ROWS * INDEX_BYTES);
  for (const { source, first, path } of indexes) {
    const file = await open(path, 'r');
    try {
      for (let before = 0; ; ) {
        signal.throwIfAborted();
        const { bytesRead } = await file.read(bytes, 0, bytes.length, null);
        const rows = bytesRead / INDEX_BYTES;
        if (rows === 0) break;
        yield { source, first: first + before, rows, bytes };
        before += rows;
      }
    } finally {
      await file.close();
    }
  }
}
