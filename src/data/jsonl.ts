// Reads JSON Lines: one row a line; blank lines are no rows.
import { type Place, parseJsonRow, ROW_BYTES_MAX, type RowParser, type TakeRow, tooLarge } from './rows-read.ts';

const NEWLINE = 10;
const RETURN = 13;

export function createJsonlParser(start: Place): RowParser {
  const lines = createLineCutter(ROW_BYTES_MAX, start);
  const read = (line: Line, take: TakeRow) => {
    if (line.isCut) take({ ...tooLarge(line.place, line.bytes), sizeBytes: line.sizeBytes });
    else if (!isBlank(line.bytes)) take(parseJsonRow(line.bytes, line.place));
  };
  return {
    push: (chunk, take) => lines.push(chunk, (line) => read(line, take)),
    end: (take) => lines.end((line) => read(line, take)),
    get at() {
      return lines.at;
    },
  };
}

interface Line {
  place: Place;
  /** Without its line end. */
  bytes: Buffer;
  /** The line is longer than the limit, and `bytes` is only its start. */
  isCut: boolean;
  /** Of the whole line. */
  sizeBytes: number;
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
  /** The start of a line whose end has not come, and all its bytes so far. */
  let held: Buffer[] = [];
  let heldBytes = 0;
  let lineBytes = 0;

  const hold = (piece: Buffer) => {
    const kept = piece.subarray(0, Math.max(0, lineBytesMax + 1 - heldBytes));
    lineBytes += piece.length;
    heldBytes += kept.length;
    // A copy, so that the chunk can be given up.
    if (kept.length > 0) held.push(Buffer.from(kept));
  };
  const give = (whole: Buffer, sizeBytes: number, lineEndBytes: number, take: TakeLine) => {
    const hasReturn = sizeBytes === whole.length && whole[whole.length - 1] === RETURN;
    const bytes = hasReturn ? whole.subarray(0, -1) : whole;
    const place = { line: number++, offset };
    offset += sizeBytes + lineEndBytes;
    take({ place, bytes, isCut: bytes.length > lineBytesMax, sizeBytes: hasReturn ? sizeBytes - 1 : sizeBytes });
  };
  const giveHeld = (lineEndBytes: number, take: TakeLine) => {
    const [whole, sizeBytes] = [held.length === 1 ? (held[0] as Buffer) : Buffer.concat(held), lineBytes];
    [held, heldBytes, lineBytes] = [[], 0, 0];
    give(whole, sizeBytes, lineEndBytes, take);
  };

  return {
    push(chunk, take) {
      let from = 0;
      for (let to = chunk.indexOf(NEWLINE); to !== -1; to = chunk.indexOf(NEWLINE, from)) {
        if (lineBytes === 0) {
          const length = Math.min(to - from, lineBytesMax + 1);
          give(chunk.subarray(from, from + length), to - from, 1, take);
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

function isBlank(bytes: Buffer): boolean {
  for (const byte of bytes) if (byte !== 32 && byte !== 9 && byte !== RETURN) return false;
  return true;
}
