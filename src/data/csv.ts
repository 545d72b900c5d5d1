// Reads CSV with a header row (RFC 4180; `,`, `;` or tab), with physical line numbers also where a quoted field spans lines.
// A broken quote costs one row: reading goes on at the line after the one on which the quote stands.
import { isUtf8 } from 'node:buffer';
import { AnnealError } from '../contracts/failure.ts';
import type { DropCode } from '../contracts/rows.ts';
import {
  brokenRow,
  countNewlines,
  invalidUtf8,
  type ReadRow,
  ROW_BYTES_MAX,
  type RowParser,
  tooLarge,
} from './rows-read.ts';

const QUOTE = 0x22;
const NEWLINE = 10;
const RETURN = 13;

/** Detected in this order where counts are equal. */
const DELIMITERS = [',', ';', '\t'] as const;
type Delimiter = (typeof DELIMITERS)[number];

export interface CsvOptions {
  /** Named in errors. */
  name: string;
  /** Called once, with what was found in the header. */
  onHeader?: (header: { delimiter: Delimiter; columns: string[] }) => void;
}

/** @throws AnnealError `data_rejected` from `push` or `end` when the header cannot be used. */
export function createCsvParser(options: CsvOptions): RowParser {
  let buffer: Buffer = Buffer.alloc(0);
  let at = 0;
  let line = 1;
  let delimiter: Delimiter | null = null;
  let columns: string[] | null = null;
  /** Inside a line that is too long to be held; its row was given already. */
  let isSkipping = false;

  const moveTo = (next: number) => {
    line += countNewlines(buffer, at, next);
    at = next;
  };

  const readHeader = (record: CsvRecord) => {
    columns = checkHeader(record, options.name, line);
    options.onHeader?.({ delimiter: delimiter as Delimiter, columns });
  };

  /** Detects the delimiter on the header's line; false when that line is not complete. */
  const readDialect = (isEnd: boolean): boolean => {
    const newline = buffer.indexOf(NEWLINE, at);
    if (newline === -1 && !isEnd) return false;
    const next = newline === -1 ? buffer.length : newline + 1;
    const text = buffer.toString('utf8', at, next).replace(/\r?\n$/, '');
    if (text.trim() === '') {
      moveTo(next);
      return true;
    }
    const declared = /^sep=([,;\t])$/.exec(text)?.[1] as Delimiter | undefined;
    delimiter = declared ?? detectDelimiter(text);
    if (declared !== undefined) moveTo(next);
    return true;
  };

  const skipLine = (isEnd: boolean): boolean => {
    const newline = buffer.indexOf(NEWLINE, at);
    moveTo(newline === -1 ? buffer.length : newline + 1);
    isSkipping = newline === -1 && !isEnd;
    return !isSkipping;
  };

  /** Gives up a record that has no end within the limit. */
  const readOverlong = (record: { openQuote: number | null }): ReadRow => {
    const row =
      record.openQuote === null
        ? tooLarge(line, buffer.subarray(at))
        : unterminated(buffer, at, record.openQuote, line, `within ${ROW_BYTES_MAX} bytes`);
    moveTo(record.openQuote ?? at);
    isSkipping = true;
    return row;
  };

  const readRecord = (record: CsvRecord | CsvFault): ReadRow | null => {
    const start = at;
    const startLine = line;
    if ('code' in record) {
      if (columns === null) throw headerError(options.name, line, record.message(start, line));
      moveTo(record.next);
      return brokenRow(startLine, record.code, record.message(start, startLine), buffer.subarray(start, record.next));
    }
    const row = columns === null ? null : toRow(record, columns, buffer.subarray(start, record.end), startLine);
    if (columns === null && !record.isBlank) readHeader(record);
    moveTo(record.next);
    return row;
  };

  /** One step; false when more bytes are needed. */
  const step = (rows: ReadRow[], isEnd: boolean): boolean => {
    if (isSkipping) return skipLine(isEnd);
    if (at === buffer.length) return false;
    if (delimiter === null) return readDialect(isEnd);
    const record = scanRecord(buffer, at, delimiter.charCodeAt(0), isEnd);
    if ('openQuote' in record) {
      if (buffer.length - at <= ROW_BYTES_MAX) return false;
      rows.push(readOverlong(record));
      return true;
    }
    const row = readRecord(record);
    if (row !== null) rows.push(row);
    return true;
  };

  const drain = (isEnd: boolean): ReadRow[] => {
    const rows: ReadRow[] = [];
    while (step(rows, isEnd));
    buffer = buffer.subarray(at);
    at = 0;
    return rows;
  };

  return {
    push(chunk) {
      buffer = buffer.length === 0 ? chunk : Buffer.concat([buffer, chunk]);
      return drain(false);
    },
    end: () => drain(true),
  };
}

interface CsvRecord {
  fields: string[];
  /** End of the record without its line end, and the start of the next. */
  end: number;
  next: number;
  isUtf8: boolean;
  /** A line of white space, which is no row. */
  isBlank: boolean;
}

interface CsvFault {
  code: DropCode;
  /** The sentence, given where the record starts. */
  message: (start: number, line: number) => string;
  next: number;
}

/** The bytes end inside a record: inside the quoted field that opens at `openQuote`, or outside quotes. */
interface CsvOpen {
  openQuote: number | null;
}

function scanRecord(bytes: Buffer, from: number, delimiter: number, isEnd: boolean): CsvRecord | CsvFault | CsvOpen {
  const spans: FieldSpan[] = [];
  for (let at = from; ; ) {
    const field =
      bytes[at] === QUOTE ? scanQuoted(bytes, at, delimiter, isEnd) : scanPlain(bytes, at, delimiter, isEnd);
    if (!('stop' in field)) return field;
    spans.push(field);
    if (field.stop < bytes.length && bytes[field.stop] === delimiter) {
      at = field.stop + 1;
      continue;
    }
    const end =
      field.stop > from && bytes[field.stop] === NEWLINE && bytes[field.stop - 1] === RETURN
        ? field.stop - 1
        : field.stop;
    const isValid = isUtf8(bytes.subarray(from, end));
    const fields = spans.map((span) => decodeField(bytes, span));
    const isBlank = spans.length === 1 && bytes[from] !== QUOTE && fields[0]?.trim() === '';
    return { fields, end, next: Math.min(field.stop + 1, bytes.length), isUtf8: isValid, isBlank };
  }
}

interface FieldSpan {
  from: number;
  to: number;
  hasDoubledQuotes: boolean;
  /** Offset of the delimiter or line end behind the field, or the end of the bytes. */
  stop: number;
}

function scanPlain(bytes: Buffer, from: number, delimiter: number, isEnd: boolean): FieldSpan | CsvFault | CsvOpen {
  let at = from;
  for (; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === delimiter || byte === NEWLINE) break;
    if (byte === QUOTE) return strayQuote(bytes, at, isEnd);
  }
  if (at === bytes.length && !isEnd) return { openQuote: null };
  const isLineEnd = at === bytes.length || bytes[at] === NEWLINE;
  const to = isLineEnd && at > from && bytes[at - 1] === RETURN ? at - 1 : at;
  return { from, to, hasDoubledQuotes: false, stop: at };
}

function scanQuoted(bytes: Buffer, open: number, delimiter: number, isEnd: boolean): FieldSpan | CsvFault | CsvOpen {
  let hasDoubledQuotes = false;
  let close = bytes.indexOf(QUOTE, open + 1);
  while (close !== -1 && bytes[close + 1] === QUOTE) {
    hasDoubledQuotes = true;
    close = bytes.indexOf(QUOTE, close + 2);
  }
  if (close === -1) return isEnd ? unterminatedFault(bytes, open) : { openQuote: open };
  const isReturn = bytes[close + 1] === RETURN;
  const stop = isReturn ? close + 2 : close + 1;
  if (stop >= bytes.length)
    return isEnd ? { from: open + 1, to: close, hasDoubledQuotes, stop: bytes.length } : { openQuote: open };
  if (bytes[stop] === NEWLINE || (!isReturn && bytes[stop] === delimiter))
    return { from: open + 1, to: close, hasDoubledQuotes, stop };
  return countNewlines(bytes, open, close) > 0 ? unterminatedFault(bytes, open) : strayQuote(bytes, close, isEnd);
}

function strayQuote(bytes: Buffer, quote: number, isEnd: boolean): CsvFault | CsvOpen {
  const newline = bytes.indexOf(NEWLINE, quote);
  if (newline === -1 && !isEnd) return { openQuote: null };
  return {
    code: 'csv_stray_quote',
    message: (start, line) =>
      `a quote stands inside a field on line ${line + countNewlines(bytes, start, quote)}; put the whole field into quotes and double the quotes inside it`,
    next: newline === -1 ? bytes.length : newline + 1,
  };
}

function unterminatedFault(bytes: Buffer, open: number): CsvFault {
  const newline = bytes.indexOf(NEWLINE, open);
  return {
    code: 'csv_unterminated_quote',
    message: (start, line) => unterminatedSentence(line + countNewlines(bytes, start, open), ''),
    next: newline === -1 ? bytes.length : newline + 1,
  };
}

function unterminated(bytes: Buffer, start: number, open: number, line: number, within: string): ReadRow {
  const sentence = unterminatedSentence(line + countNewlines(bytes, start, open), within);
  return brokenRow(line, 'csv_unterminated_quote', sentence, bytes.subarray(start));
}

function unterminatedSentence(line: number, within: string): string {
  return `the quote that opens on line ${line} is not closed${within && ` ${within}`}; close it, and double the quotes inside the field`;
}

function decodeField(bytes: Buffer, span: FieldSpan): string {
  const text = bytes.toString('utf8', span.from, span.to);
  return span.hasDoubledQuotes ? text.replaceAll('""', '"') : text;
}

/** null for a blank line, which is no row. */
function toRow(record: CsvRecord, columns: string[], bytes: Buffer, line: number): ReadRow | null {
  if (record.isBlank) return null;
  if (bytes.length > ROW_BYTES_MAX) return tooLarge(line, bytes);
  if (!record.isUtf8) return invalidUtf8(bytes, line);
  const found = record.fields.length;
  if (found !== columns.length) {
    const code = found < columns.length ? 'csv_missing_columns' : 'csv_too_many_columns';
    const fix = found < columns.length ? 'add what is missing' : 'put fields that hold the delimiter into quotes';
    const message = `the row has ${countOf(found, 'column')}, the header has ${columns.length} (${columns.join(', ')}); ${fix}`;
    return brokenRow(line, code, message, bytes);
  }
  const value = Object.fromEntries(columns.map((column, i) => [column, record.fields[i]]));
  return { line, value, text: bytes.toString('utf8') };
}

function checkHeader(record: CsvRecord, name: string, line: number): string[] {
  if (!record.isUtf8) throw headerError(name, line, 'it has bytes that are not UTF-8; save the file as UTF-8');
  const columns = record.fields.map((column) => column.trim());
  const twice = columns.find((column, i) => column !== '' && columns.indexOf(column) !== i);
  if (twice !== undefined) throw headerError(name, line, `it names the column "${twice}" twice; rename one`);
  return columns;
}

function headerError(name: string, line: number, what: string): AnnealError {
  return new AnnealError('data_rejected', `The CSV header of ${name} (line ${line}) cannot be used: ${what}.`);
}

function detectDelimiter(header: string): Delimiter {
  const unquoted = header.replaceAll(/"[^"]*"/g, '');
  const counts = DELIMITERS.map((delimiter) => unquoted.split(delimiter).length);
  return DELIMITERS[counts.indexOf(Math.max(...counts))] as Delimiter;
}

function countOf(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
