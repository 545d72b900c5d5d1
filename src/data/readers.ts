// Reads a source's bytes as rows, whatever its format: the one door to the parsers.
import type { Snapshot } from '../contracts/records.ts';
import { type CsvOptions, createCsvParser } from './csv.ts';
import { createJsonArrayParser } from './json-array.ts';
import { createJsonlParser } from './jsonl.ts';
import type { ReadRow, RowParser } from './rows-read.ts';

export type Format = Snapshot['sources'][number]['format'];

/** Bytes parsed at once: bounds the rows in memory, and the time in which nothing else can run (about 20 ms). */
const SLICE_BYTES = 1024 * 1024;

const BOM = Buffer.from([0xef, 0xbb, 0xbf]);

/** The rows in the order of the source. Blank lines are no rows; a byte order mark is passed over. */
export async function* readRecords(
  bytes: AsyncIterable<Uint8Array>,
  format: Format,
  options: CsvOptions,
): AsyncGenerator<ReadRow> {
  for await (const rows of readBatches(bytes, format, options)) yield* rows;
}

/** Like `readRecords`, in batches of what one slice of the source holds. */
export async function* readBatches(
  bytes: AsyncIterable<Uint8Array>,
  format: Format,
  options: CsvOptions,
): AsyncGenerator<ReadRow[]> {
  const parser = createParser(format, options);
  for await (const chunk of withoutBom(bytes)) {
    for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
      const rows = parser.push(chunk.subarray(at, at + SLICE_BYTES));
      if (rows.length > 0) yield rows;
    }
  }
  const rows = parser.end();
  if (rows.length > 0) yield rows;
}

function createParser(format: Format, options: CsvOptions): RowParser {
  switch (format) {
    case 'jsonl':
      return createJsonlParser();
    case 'json':
      return createJsonArrayParser();
    case 'csv':
      return createCsvParser(options);
    default:
      return format satisfies never;
  }
}

async function* withoutBom(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let head: Buffer | null = Buffer.alloc(0);
  for await (const piece of bytes) {
    const chunk = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    if (head === null) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    if (head.length < BOM.length) continue;
    yield afterBom(head);
    head = null;
  }
  if (head !== null) yield afterBom(head);
}

function afterBom(bytes: Buffer): Buffer {
  return bytes.subarray(0, BOM.length).equals(BOM) ? bytes.subarray(BOM.length) : bytes;
}
