// Reads JSON Lines: one row a line; blank lines are no rows.
import { parseJsonRow, type ReadRow, ROW_BYTES_MAX, type RowParser, tooLarge } from './rows-read.ts';

export function createJsonlParser(): RowParser {
  const lines = createLineCutter(ROW_BYTES_MAX);
  const read = ({ bytes, number, isCut }: Line): ReadRow | null => {
    if (isCut) return tooLarge(number, bytes);
    return isBlank(bytes) ? null : parseJsonRow(bytes, number);
  };
  return {
    push: (chunk) =>
      lines
        .push(chunk)
        .map(read)
        .filter((row) => row !== null),
    end: () =>
      lines
        .end()
        .map(read)
        .filter((row) => row !== null),
  };
}

interface Line {
  /** 1-based. */
  number: number;
  bytes: Buffer;
  /** The line is longer than the limit, and `bytes` is only its start. */
  isCut: boolean;
}

/** Cuts at `\n`, takes a `\r` before it away, and holds at most `lineBytesMax` of a line. */
export function createLineCutter(lineBytesMax: number): { push(chunk: Buffer): Line[]; end(): Line[] } {
  let held: Buffer[] = [];
  let heldBytes = 0;
  let isCut = false;
  let number = 1;

  const hold = (piece: Buffer) => {
    const room = lineBytesMax + 1 - heldBytes;
    if (piece.length > room) isCut = true;
    const kept = piece.subarray(0, room);
    held.push(kept);
    heldBytes += kept.length;
  };
  const finish = (): Line => {
    const whole = held.length === 1 ? (held[0] as Buffer) : Buffer.concat(held);
    const bytes = whole.at(-1) === 13 ? whole.subarray(0, -1) : whole;
    const line = { number: number++, bytes, isCut: isCut || bytes.length > lineBytesMax };
    held = [];
    heldBytes = 0;
    isCut = false;
    return line;
  };

  return {
    push(chunk) {
      const lines: Line[] = [];
      let start = 0;
      for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, start)) {
        hold(chunk.subarray(start, at));
        lines.push(finish());
        start = at + 1;
      }
      if (start < chunk.length) hold(chunk.subarray(start));
      return lines;
    },
    end: () => (heldBytes > 0 ? [finish()] : []),
  };
}

function isBlank(bytes: Buffer): boolean {
  for (const byte of bytes) if (byte !== 32 && byte !== 9 && byte !== 13) return false;
  return true;
}
