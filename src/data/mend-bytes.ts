// Mends rows with bytes that are not UTF-8: those bytes are read as Windows-1252, which is what they are in files that two programs have
// written to. What is UTF-8 stays. A file that is as a whole in another encoding is converted by its source's `encoding` instead.
import iconv from 'iconv-lite';
import { type CsvOptions, createCsvParser } from './csv.ts';
import type { Format } from './readers.ts';
import { type BrokenRow, type GoodRow, isBroken, parseJsonRow, type ReadRow } from './rows-read.ts';

/** Well-formed UTF-8 (table 3-7 of the Unicode standard), or one byte that is no part of any. */
const UTF8_OR_BYTE =
  /(?:[^\x80-\xff]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}|\xf4[\x80-\x8f][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3})+|[\x80-\xff]/g;

/** The bytes as UTF-8; null where one has no meaning in Windows-1252. */
export function toUtf8Bytes(bytes: Buffer): Buffer | null {
  const pieces: Buffer[] = [];
  for (const [piece] of bytes.toString('latin1').matchAll(UTF8_OR_BYTE)) {
    const own = Buffer.from(piece, 'latin1');
    if (own.length > 1 || (own[0] as number) < 0x80) pieces.push(own);
    else {
      const character = iconv.decode(own, 'cp1252');
      if (/[\ufffd\x80-\x9f]/.test(character)) return null;
      pieces.push(Buffer.from(character));
    }
  }
  return Buffer.concat(pieces);
}

/** The row anew, at its place; null where it cannot be read for this or another reason. */
export function rereadRow(row: BrokenRow, format: Format, csv: CsvOptions): GoodRow | null {
  if (row.code !== 'invalid_utf8' || row.bytes === undefined) return null;
  const bytes = toUtf8Bytes(row.bytes);
  if (bytes === null) return null;
  const found = format === 'csv' ? readCsvRow(bytes, row, csv) : parseJsonRow(bytes, row);
  return found === null || isBroken(found) ? null : found;
}

function readCsvRow(bytes: Buffer, { line, offset }: BrokenRow, csv: CsvOptions): ReadRow | null {
  const rows: ReadRow[] = [];
  const parser = createCsvParser(csv, { line, offset });
  parser.push(bytes, (row) => rows.push(row));
  parser.end((row) => rows.push(row));
  return rows.length === 1 ? (rows[0] as ReadRow) : null;
}
