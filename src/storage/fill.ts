// Reads a file on, until memory is full or the file ends.
import type { FileHandle } from 'node:fs/promises';

/** @returns bytes read; fewer than there is room for only at the file's end */
export async function fill(file: FileHandle, memory: Uint8Array): Promise<number> {
  let length = 0;
  while (length < memory.length) {
    const { bytesRead } = await file.read(memory, length, memory.length - length, null);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return length;
}
