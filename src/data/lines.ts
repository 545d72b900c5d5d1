// Cuts bytes into lines.
import { free } from '../storage/own-memory.ts';
import type { Place, RawRow } from './rows-read.ts';

const NEWLINE = 10;
const RETURN = 13;

/** Without its line end. */
export class Line implements RawRow {
  readonly line: number;
  readonly offset: number;
  readonly source: Buffer;
  readonly from: number;
  readonly to: number;
  /** Of the whole line. */
  readonly sizeBytes: number;
  /** The line is longer than the limit, and this is only its start. */
  readonly isCut: boolean;

  constructor({ line, offset }: Place, source: Buffer, from: number, sizeBytes: number, sizeBytesMax: number) {
    this.line = line;
    this.offset = offset;
    this.source = source;
    this.from = from;
    this.to = from + Math.min(sizeBytes, sizeBytesMax + 1);
    this.sizeBytes = sizeBytes;
    this.isCut = sizeBytes > sizeBytesMax;
  }

  get bytes(): Buffer {
    return this.source.subarray(this.from, this.to);
  }
}

type TakeLine = (line: Line) => void;

export interface LineCutter {
  push(chunk: Buffer, take: TakeLine): void;
  end(take: TakeLine): void;
  /** Where the next line starts. */
  readonly at: Place;
}

/** Cuts at `\n`, takes a `\r` before it away, and holds at most `lineBytesMax` of a line. */
export function createLineCutter(lineBytesMax: number, start: Place = { line: 1, offset: 0 }): LineCutter {
  let { line: number, offset } = start;
  /** The start of a line whose end has not come, at most what is kept of it, and all its bytes so far. */
  let held: Buffer = Buffer.alloc(0);
  let heldBytes = 0;
  let lineBytes = 0;

  const hold = (piece: Buffer) => {
    const kept = piece.subarray(0, Math.max(0, lineBytesMax + 1 - heldBytes));
    lineBytes += piece.length;
    // A copy, so that the chunk can be given up.
    if (heldBytes + kept.length > held.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(2 * (heldBytes + kept.length), lineBytesMax + 1));
      held.copy(larger, 0, 0, heldBytes);
      free(held);
      held = larger;
    }
    heldBytes += kept.copy(held, heldBytes);
  };
  const give = (source: Buffer, from: number, sizeBytes: number, lineEndBytes: number, take: TakeLine) => {
    const place = { line: number++, offset };
    offset += sizeBytes + lineEndBytes;
    const hasReturn = sizeBytes > 0 && from + sizeBytes <= source.length && source[from + sizeBytes - 1] === RETURN;
    take(new Line(place, source, from, hasReturn ? sizeBytes - 1 : sizeBytes, lineBytesMax));
  };
  const giveHeld = (lineEndBytes: number, take: TakeLine) => {
    const [whole, sizeBytes] = [held.subarray(0, heldBytes), lineBytes];
    // Whoever takes the line may keep it.
    [held, heldBytes, lineBytes] = [Buffer.alloc(0), 0, 0];
    give(whole, 0, sizeBytes, lineEndBytes, take);
  };

  return {
    push(chunk, take) {
      let from = 0;
      for (let to = chunk.indexOf(NEWLINE); to !== -1; to = chunk.indexOf(NEWLINE, from)) {
        if (lineBytes === 0) {
          give(chunk, from, to - from, 1, take);
        } else {
          hold(chunk.subarray(from, to));
          giveHeld(1, take);
        }
        from = to + 1;
      }
      if (from < chunk.length) hold(chunk.subarray(from));
    },
    end: (take) => {
      if (lineBytes > 0) giveHeld(0, take);
    },
    get at() {
      return { line: number, offset };
    },
  };
}
