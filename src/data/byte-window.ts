// The bytes that a parser holds: which are not used yet, and on which line of the source they stand.
import { countNewlines, type ReadRow, type RowParser } from './rows-read.ts';

export class ByteWindow {
  bytes: Buffer = Buffer.alloc(0);
  /** Offset of the first byte that is not used. */
  at = 0;
  /** Its line, 1-based. */
  line = 1;

  append(chunk: Buffer): void {
    this.bytes = this.bytes.length === 0 ? chunk : Buffer.concat([this.bytes, chunk]);
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

  /** Gives up the bytes that are used. */
  forget(): void {
    this.bytes = this.rest();
    this.at = 0;
  }
}

/**
 * A parser that takes steps: each uses bytes of the window, may add a row, and is false when it needs more bytes.
 * `isEnd`: there will be none.
 */
export function parserOf(window: ByteWindow, step: (rows: ReadRow[], isEnd: boolean) => boolean): RowParser {
  const drain = (isEnd: boolean) => {
    const rows: ReadRow[] = [];
    while (step(rows, isEnd));
    window.forget();
    return rows;
  };
  return {
    push(chunk) {
      window.append(chunk);
      return drain(false);
    },
    end: () => drain(true),
  };
}
