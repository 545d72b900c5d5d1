// Gives a range's own records to a function, from bytes that begin anywhere in the source and go on behind the range.

import type { CsvOptions } from '../csv.ts';
import { createParser, type Format, type TakeRaw } from '../readers.ts';
import type { Place, RawRow, RowParser, TakeRow } from '../rows-read.ts';
import type { RangeOptions } from './options.ts';

const NEWLINE = 10;

export interface RowReader {
  push(slice: Buffer): void;
  /** The source has no more bytes. */
  end(): void;
  /** Every record of the range was given. */
  readonly isDone: boolean;
  /** Offset in the source of the first byte that is not used. */
  readonly offset: number;
}

type Span = Pick<RangeOptions, 'format' | 'startOffset' | 'endOffset' | 'firstLine'>;

export function createRowReader(span: Span, csv: CsvOptions, take: TakeRow, takeRaw: TakeRaw = {}): RowReader {
  const start = { line: span.firstLine, offset: span.startOffset };
  const isOwn = ownerOf(span);
  const takeOwn: TakeRow = (row) => {
    if (isOwn(row.offset)) take(row);
  };
  const own = <Row extends RawRow>(takeRow?: (row: Row) => boolean) =>
    takeRow && ((row: Row) => isOwn(row.offset) && takeRow(row));
  const takeOwnRaw = { line: own(takeRaw.line), record: own(takeRaw.record) };
  const create = (place: Place) => createParser(span.format, csv, place, takeOwnRaw);
  const parser = span.format === 'jsonl' && start.offset > 0 ? fromNextLine(start, create) : create(start);
  return {
    push: (slice) => parser.push(slice, takeOwn),
    end: () => parser.end(takeOwn),
    get isDone() {
      return !isOwn(parser.at.offset);
    },
    get offset() {
      return parser.at.offset;
    },
  };
}

/** Whether a record that starts at the offset is the range's. A line belongs to the range of the line end before it. */
function ownerOf({ format, endOffset }: { format: Format; endOffset: number | null }): (offset: number) => boolean {
  if (endOffset === null) return () => true;
  return format === 'jsonl' ? (offset) => offset <= endOffset : (offset) => offset < endOffset;
}

/** The line in which the bytes begin is another range's. */
function fromNextLine(start: Place, create: (place: Place) => RowParser): RowParser {
  let { line, offset } = start;
  let parser: RowParser | null = null;
  return {
    push(chunk, take) {
      if (parser !== null) return parser.push(chunk, take);
      const newline = chunk.indexOf(NEWLINE);
      offset += newline === -1 ? chunk.length : newline + 1;
      if (newline === -1) return;
      parser = create({ line: ++line, offset });
      parser.push(chunk.subarray(newline + 1), take);
    },
    end: (take) => parser?.end(take),
    get at() {
      return parser?.at ?? { line, offset };
    },
  };
}
