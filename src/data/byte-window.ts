// The bytes that a parser holds: which are not used yet, and on which line of the source they stand.
import { countNewlines, type Place, ROW_BYTES_MAX, type RowParser, type TakeRow } from './rows-read.ts';

/** Room made ahead of need: the longest row that a parser waits for, and what comes with its end. */
const ROOM_BYTES_MAX = ROW_BYTES_MAX + 2 * 1024 * 1024;

export class ByteWindow {
  bytes: Buffer = Buffer.alloc(0);
  /** Offset of the first byte that is not used. */
  at = 0;
  /** Its line, 1-based. */
  line: number;
  #room: Buffer = Buffer.alloc(0);
  /** Offset of the first byte of `bytes` in the source. */
  #start: number;

  constructor({ line, offset }: Place) {
    this.line = line;
    this.#start = offset;
  }

  /** Where the first byte that is not used stands in the source. */
  get place(): Place {
    return { line: this.line, offset: this.#start + this.at };
  }

  append(chunk: Buffer): void {
    if (this.bytes.length === 0) this.bytes = chunk;
    else this.#join(chunk);
  }

  /** Behind the bytes that are held, in memory with room for more: a long row comes in many chunks. */
  #join(chunk: Buffer): void {
    const sizeBytes = this.bytes.length + chunk.length;
    const from = this.bytes.byteOffset - this.#room.byteOffset;
    const isInRoom = this.bytes.buffer === this.#room.buffer;
    if (!isInRoom || from + sizeBytes > this.#room.length) {
      this.#room = Buffer.allocUnsafeSlow(Math.max(sizeBytes, Math.min(2 * sizeBytes, ROOM_BYTES_MAX)));
      this.bytes.copy(this.#room);
      chunk.copy(this.#room, this.bytes.length);
      this.bytes = this.#room.subarray(0, sizeBytes);
      return;
    }
    chunk.copy(this.#room, from + this.bytes.length);
    this.bytes = this.#room.subarray(from, from + sizeBytes);
  }

  moveTo(next: number): void {
    this.line += countNewlines(this.bytes, this.at, next);
    this.at = next;
  }

  moveToEnd(): void {
    this.moveTo(this.bytes.length);
  }

  /** The bytes that are not used, up to the offset. */
  rest(end?: number): Buffer {
    return this.bytes.subarray(this.at, end);
  }

  get isSpent(): boolean {
    return this.at === this.bytes.length;
  }

  /** Gives up the bytes that are used, and the chunk that they came in. */
  forget(): void {
    const rest = this.rest();
    this.bytes = rest.buffer === this.#room.buffer ? rest : Buffer.from(rest);
    this.#start += this.at;
    this.at = 0;
  }
}

/**
 * A parser that takes steps: each uses bytes of the window, may add a row, and is false when it needs more bytes.
 * `isEnd`: there will be none.
 */
export function parserOf(window: ByteWindow, step: (take: TakeRow, isEnd: boolean) => boolean): RowParser {
  const drain = (take: TakeRow, isEnd: boolean) => {
    while (step(take, isEnd));
    window.forget();
  };
  return {
    push(chunk, take) {
      window.append(chunk);
      drain(take, false);
    },
    end: (take) => drain(take, true),
    get at() {
      return window.place;
    },
  };
}
