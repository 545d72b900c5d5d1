// Finds where a CSV record and its fields end, and what is broken in it. Works on bytes; nothing here knows of columns.
import type { DropCode } from '../contracts/rows.ts';
import { countNewlines } from './rows-read.ts';

const QUOTE = 0x22;
const NEWLINE = 10;
const RETURN = 13;

export interface CsvRecord {
  fields: FieldSpan[];
  /** End of the record without its line end, and the start of the next. */
  end: number;
  next: number;
}

export interface CsvFault {
  code: DropCode;
  /** The sentence, given where the record starts. */
  message: (start: number, line: number) => string;
  next: number;
}

/** The bytes end inside a record: inside the quoted field that opens at `openQuote`, or outside quotes. */
export interface CsvOpen {
  openQuote: number | null;
}

export function scanRecord(
  bytes: Buffer,
  from: number,
  delimiter: number,
  isEnd: boolean,
): CsvRecord | CsvFault | CsvOpen {
  const fields: FieldSpan[] = [];
  for (let at = from; ; ) {
    const field =
      bytes[at] === QUOTE ? scanQuoted(bytes, at, delimiter, isEnd) : scanPlain(bytes, at, delimiter, isEnd);
    if (!('stop' in field)) return field;
    fields.push(field);
    if (field.stop < bytes.length && bytes[field.stop] === delimiter) {
      at = field.stop + 1;
      continue;
    }
    const end =
      field.stop > from && bytes[field.stop] === NEWLINE && bytes[field.stop - 1] === RETURN
        ? field.stop - 1
        : field.stop;
    return { fields, end, next: Math.min(field.stop + 1, bytes.length) };
  }
}

export interface FieldSpan {
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

export function unterminatedSentence(line: number, within: string): string {
  return `the quote that opens on line ${line} is not closed${within && ` ${within}`}; close it, and double the quotes inside the field`;
}

export function decodeField(bytes: Buffer, span: FieldSpan): string {
  const text = bytes.toString('utf8', span.from, span.to);
  return span.hasDoubledQuotes ? text.replaceAll('""', '"') : text;
}
