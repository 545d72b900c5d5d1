// Files of lists of numbers, each list a row's: the row's number, how many numbers there are, the numbers; 32 bits each, little endian as
// every machine is that runs this. In the order of the rows; a row may have several lists, or none.
import { open } from 'node:fs/promises';
import { openBlockWriter } from './block-writer.ts';

const HEAD_NUMBERS = 2;
/** Read at once; more only where one list is longer. */
const READ_BYTES = 1024 * 1024;

export interface RowListWriter {
  /** The numbers [from, to); all of them where it is not said. */
  add(row: number, numbers: Int32Array, from?: number, to?: number): void;
  close(): void;
}

/** @param blockBytesMax less than a block writer's own where there are many of them. */
export function openRowLists(path: string, blockBytesMax?: number): RowListWriter {
  const writer = openBlockWriter(path, blockBytesMax);
  return {
    add(row, numbers, from = 0, to = numbers.length) {
      const sizeBytes = 4 * (HEAD_NUMBERS + to - from);
      const { block, at } = writer.reserve(sizeBytes);
      block.writeInt32LE(row, at);
      block.writeInt32LE(to - from, at + 4);
      const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset + 4 * from, 4 * (to - from));
      block.set(bytes, at + 4 * HEAD_NUMBERS);
      writer.advance(sizeBytes);
    },
    close: () => writer.close(),
  };
}

/** The list's numbers are [from, to), valid until it returns. */
export type TakeList = (row: number, numbers: Int32Array, from: number, to: number) => void;

/** Calls back with each list. Memory: 1 MiB, or the longest list. */
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
      const used = eachList(numbers, held >> 2, take);
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

/** Calls back with each whole list before `length`. Gives where they end. */
function eachList(numbers: Int32Array, length: number, take: TakeList): number {
  let at = 0;
  while (at + HEAD_NUMBERS <= length) {
    const end = at + HEAD_NUMBERS + (numbers[at + 1] as number);
    if (end > length) break;
    take(numbers[at] as number, numbers, at + HEAD_NUMBERS, end);
    at = end;
  }
  return at;
}
