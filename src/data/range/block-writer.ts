// Writes a file of a range through one block of memory. Synchronous: a range has a thread of its own.
import { closeSync, openSync, writeSync } from 'node:fs';
import { writeError } from '../line-file.ts';

/** Gathered before it is written; less at first, because many a file stays small. */
const BLOCK_BYTES_MAX = 1024 * 1024;
const BLOCK_BYTES_MIN = 64 * 1024;
const BLOCK_GROWTH = 4;

export interface BlockWriter {
  /** The block with room for so many bytes from `at` on; what was put there counts once `advance` says how much. */
  reserve(sizeBytes: number): { block: Buffer; at: number };
  advance(sizeBytes: number): void;
  addText(text: string): void;
  addBytes(bytes: Uint8Array): void;
  /** @throws AnnealError `disk_full`. */
  close(): void;
}

/** Creates or empties the file. @param blockBytesMax less where there are many writers. */
export function openBlockWriter(path: string, blockBytesMax: number = BLOCK_BYTES_MAX): BlockWriter {
  const file = openSync(path, 'w');
  let block = Buffer.allocUnsafeSlow(BLOCK_BYTES_MIN);
  let used = 0;
  const flush = () => {
    try {
      for (let at = 0; at < used; ) at += writeSync(file, block, at, used - at);
    } catch (error) {
      throw writeError(error as NodeJS.ErrnoException, path);
    }
    used = 0;
  };
  const reserve = (sizeBytes: number) => {
    if (used + sizeBytes > block.length) {
      flush();
      const wanted = Math.max(sizeBytes, Math.min(BLOCK_GROWTH * block.length, blockBytesMax));
      if (wanted !== block.length) block = Buffer.allocUnsafeSlow(wanted);
    }
    return { block, at: used };
  };
  return {
    reserve,
    advance(sizeBytes) {
      used += sizeBytes;
    },
    addText(text) {
      const { block: target, at } = reserve(text.length * 3);
      used += target.write(text, at);
    },
    addBytes(bytes) {
      const { block: target, at } = reserve(bytes.length);
      target.set(bytes, at);
      used += bytes.length;
    },
    close() {
      try {
        flush();
      } finally {
        closeSync(file);
      }
    },
  };
}
