// The words of held-out texts on disk, so that they are looked at twice and read from the store once: row, words, the hash of each word,
// 32 bits each in the machine's own order.
import { createReadStream } from 'node:fs';
import { type BlockWriter, openBlockWriter } from '../../range/block-writer.ts';

const HEAD_NUMBERS = 2;
const READ_BYTES = 1024 * 1024;

export function openTextFile(path: string): { add(texts: Int32Array): void; close(): void } {
  const writer: BlockWriter = openBlockWriter(path);
  return {
    add: (texts) => writer.addBytes(new Uint8Array(texts.buffer, texts.byteOffset, texts.byteLength)),
    close: () => writer.close(),
  };
}

type TakeWords = (words: Int32Array, row: number) => void;

/** Calls back with each whole text. Gives where they end. */
export function eachText(texts: Int32Array, take: TakeWords): number {
  let at = 0;
  while (at + HEAD_NUMBERS <= texts.length) {
    const end = at + HEAD_NUMBERS + (texts[at + 1] as number);
    if (end > texts.length) break;
    take(texts.subarray(at + HEAD_NUMBERS, end), texts[at] as number);
    at = end;
  }
  return at;
}

/** The words are valid until it returns. */
export async function readTextFile(path: string, take: TakeWords): Promise<void> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) {
    // A copy, which begins at a multiple of four.
    const bytes = Buffer.concat([rest, chunk as Buffer]);
    const numbers = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
    rest = bytes.subarray(4 * eachText(numbers, take));
  }
}
