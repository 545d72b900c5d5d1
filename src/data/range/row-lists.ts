// Files of lists of numbers, each list a row's: the row's number, how many numbers there are, the numbers; 32 bits each, little endian as
// every machine is that runs this. In the order of the rows; a row may have several lists, or none.
import { open } from 'node:fs/promises';
import { openBlockWriter } from './block-writer.ts';

const HEAD_NUMBERS = 2;
/** Read at once; more only where one list is longer. */
const READ_BYTES = 1024 * 1024;

export interface RowListWriter {
  add(row: number, numbers: Int32Array): void;
  close(): void;
}

export function openRowLists(path: string): RowListWriter {
  const writer = openBlockWriter(path);
  return {
    add(row, numbers) {
      const { block, at } = writer.reserve(4 * (HEAD_NUMBERS + numbers.length));
      block.writeInt32LE(row, at);
      block.writeInt32LE(numbers.length, at + 4);
      block.set(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), at + 4 * HEAD_NUMBERS);
      writer.advance(4 * (HEAD_NUMBERS + numbers.length));
    },
    close: () => writer.close(),
  };
}

export type TakeList = (row: number, numbers: Int32Array) => void;

/** Calls back with each list; its numbers are valid until it returns. Memory: 1 MiB, or the longest list. */
export async function readRowLists(path: string, take: TakeList, signal: AbortSignal): Promise<void> {
  const file = await open(path, 'r');
  try {
    let numbers = new Int32Array(READ_BYTES / 4);
    /** Bytes of it that were read, and not used. */
    let held = 0;
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(new Uint8Array(numbers.buffer), held, 4 * numbers.length - held, null);
      if (bytesRead === 0) return;
      held += bytesRead;
      const used = eachList(numbers.subarray(0, held >> 2), take);
      numbers.copyWithin(0, used, Math.ceil(held / 4));
      held -= 4 * used;
      if (held >> 2 < numbers.length) continue;
      const larger = new Int32Array(2 * numbers.length);
      larger.set(numbers);
      numbers = larger;
    }
  } finally {
    await file.close();
  }
}

/** Calls back with each whole list. Gives where they end. */
function eachList(numbers: Int32Array, take: TakeList): number {
  let at = 0;
  while (at + HEAD_NUMBERS <= numbers.length) {
    const end = at + HEAD_NUMBERS + (numbers[at + 1] as number);
    if (end > numbers.length) break;
    take(numbers[at] as number, numbers.subarray(at + HEAD_NUMBERS, end));
    at = end;
  }
  return at;
}
