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

/** Lists in memory, one behind the other as in a file. */
export class HeldLists {
  #numbers = new Int32Array(READ_BYTES / 4);
  #length = 0;
  /** Numbers of all lists. */
  count = 0;

  /** Those of [from, to) that are wanted. */
  add(row: number, numbers: Int32Array, from: number, to: number, isWanted: (number: number) => boolean): void {
    this.#makeRoom(HEAD_NUMBERS + to - from);
    const start = this.#length + HEAD_NUMBERS;
    let end = start;
    for (let i = from; i < to; i++) if (isWanted(numbers[i] as number)) this.#numbers[end++] = numbers[i] as number;
    if (end === start) return;
    this.#numbers[start - HEAD_NUMBERS] = row;
    this.#numbers[start - 1] = end - start;
    this.#length = end;
    this.count += end - start;
  }

  each(take: TakeList): void {
    eachList(this.#numbers, this.#length, take);
  }

  #makeRoom(more: number): void {
    if (this.#length + more <= this.#numbers.length) return;
    const larger = new Int32Array(2 * (this.#length + more));
    larger.set(this.#numbers.subarray(0, this.#length));
    this.#numbers = larger;
  }
}
