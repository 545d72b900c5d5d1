// Reads a source's bytes as rows, whatever its format: the one door to the parsers.
import type { Snapshot } from '../contracts/records.ts';
import { type CsvOptions, createCsvParser, type RawRecord } from './csv.ts';
import { createJsonArrayParser } from './json-array.ts';
import { createJsonlParser } from './jsonl.ts';
import type { Place, RawRow, ReadRow, RowParser } from './rows-read.ts';

export type Format = Snapshot['sources'][number]['format'];

/** Bytes parsed at once: bounds the rows in memory, and the time in which nothing else can run (about 10 ms). */
const SLICE_BYTES = 1024 * 1024;

const BOM = Buffer.from([0xef, 0xbb, 0xbf]);

const SOURCE_START: Place = { line: 1, offset: 0 };

/** The rows in the order of the source. Blank lines are no rows; a byte order mark is passed over. */
export async function* readRecords(
  bytes: AsyncIterable<Uint8Array>,
  format: Format,
  options: CsvOptions,
): AsyncGenerator<ReadRow> {
  const parser = createParser(format, options, SOURCE_START);
  let rows: ReadRow[] = [];
  const take = (row: ReadRow) => void rows.push(row);
  for await (const slice of slicesOf(bytes)) {
    parser.push(slice, take);
    yield* rows;
    rows = [];
  }
  parser.end(take);
  yield* rows;
}

/** In pieces of at most `SLICE_BYTES`. */
export async function* slicesOf(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  for await (const piece of bytes) {
    const chunk = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    for (let at = 0; at < chunk.length; at += SLICE_BYTES) yield chunk.subarray(at, at + SLICE_BYTES);
  }
}

/** Asked before a row is read; true = it took the row. */
export interface TakeRaw {
  line?: (row: RawRow) => boolean;
  record?: (row: RawRecord) => boolean;
}

/** A parser of bytes that start at the place; a byte order mark at the start of the source is passed over. */
export function createParser(format: Format, options: CsvOptions, start: Place, takeRaw: TakeRaw = {}): RowParser {
  return start.offset > 0
    ? parserFor(format, options, start, takeRaw)
    : withoutBom((place) => parserFor(format, options, place, takeRaw));
}

function parserFor(format: Format, options: CsvOptions, start: Place, takeRaw: TakeRaw): RowParser {
  switch (format) {
    case 'jsonl':
      return createJsonlParser(start, takeRaw.line);
    case 'json':
      return createJsonArrayParser(start);
    case 'csv':
      return createCsvParser(options, start, takeRaw.record);
    default:
      return format satisfies never;
  }
}

/** The parser is made once it is known whether there is a mark. */
function withoutBom(create: (start: Place) => RowParser): RowParser {
  let head: Buffer = Buffer.alloc(0);
  let parser: RowParser | null = null;
  const open = () => {
    const skipped = head.subarray(0, BOM.length).equals(BOM) ? BOM.length : 0;
    parser = create({ line: 1, offset: skipped });
    return { parser, rest: head.subarray(skipped) };
  };
  return {
    push(chunk, take) {
      if (parser !== null) return parser.push(chunk, take);
      head = Buffer.concat([head, chunk]);
      if (head.length < BOM.length) return;
      const opened = open();
      head = Buffer.alloc(0);
      opened.parser.push(opened.rest, take);
    },
    end(take) {
      if (parser !== null) return parser.end(take);
      const opened = open();
      if (opened.rest.length > 0) opened.parser.push(opened.rest, take);
      opened.parser.end(take);
    },
    get at() {
      return parser?.at ?? SOURCE_START;
    },
  };
}
