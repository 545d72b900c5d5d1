// Reads JSON Lines: one row a line; blank lines are no rows.
import { createLineCutter, type Line } from './lines.ts';
import {
  type GoodRow,
  type Place,
  parseJsonRow,
  type RawRow,
  ROW_BYTES_MAX,
  type RowParser,
  type TakeRow,
  tooLarge,
} from './rows-read.ts';

const RETURN = 13;

/** @param takeRaw asked before a row is read; true = it took the row. */
export function createJsonlParser(start: Place, takeRaw: (row: RawRow) => boolean = () => false): RowParser {
  const lines = createLineCutter(ROW_BYTES_MAX, start);
  const read = (line: Line, take: TakeRow) => {
    if (line.isCut) take({ ...tooLarge(line, line.bytes), sizeBytes: line.sizeBytes });
    else if (!takeRaw(line) && !isBlank(line.bytes)) take(parseJsonRow(line.bytes, line));
  };
  return {
    push: (chunk, take) => lines.push(chunk, (line) => read(line, take)),
    end: (take) => lines.end((line) => read(line, take)),
    get at() {
      return lines.at;
    },
  };
}

/** A line that is known to hold JSON; parsed when asked. */
export class LineRow implements GoodRow {
  readonly line: number;
  readonly offset: number;
  readonly bytes: Buffer;

  constructor({ line, offset, source, from, to }: RawRow) {
    this.line = line;
    this.offset = offset;
    this.bytes = source.subarray(from, to);
  }

  get text(): string {
    return this.bytes.toString('utf8');
  }

  get value(): unknown {
    return JSON.parse(this.text) as unknown;
  }
}

function isBlank(bytes: Buffer): boolean {
  for (const byte of bytes) if (byte !== 32 && byte !== 9 && byte !== RETURN) return false;
  return true;
}
