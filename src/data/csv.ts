// Reads CSV with a header row (RFC 4180; `,`, `;` or tab), with physical line numbers also where a quoted field spans lines.
// A broken quote costs one row: reading goes on at the line after the one on which the quote stands.

import { isUtf8 } from 'node:buffer';
import { AnnealError } from '../contracts/failure.ts';
import { plural } from '../contracts/plural.ts';
import { ByteWindow, parserOf } from './byte-window.ts';
import {
  type CsvFault,
  type CsvOpen,
  type CsvRecord,
  decodeField,
  type FieldSpan,
  scanRecord,
  unterminatedSentence,
} from './csv-scan.ts';
import {
  brokenRow,
  countNewlines,
  type GoodRow,
  invalidUtf8,
  type Place,
  type RawRow,
  type ReadRow,
  ROW_BYTES_MAX,
  type RowParser,
  type TakeRow,
  tooLarge,
} from './rows-read.ts';

const NEWLINE = 10;

/** Bytes looked at for the end of a record: the longest row and its line end. */
const SCAN_BYTES_MAX = ROW_BYTES_MAX + 2;

/** Detected in this order where counts are equal. */
const DELIMITERS = [',', ';', '\t'] as const;
type Delimiter = (typeof DELIMITERS)[number];

/** What was found in the header. */
export interface CsvHeader {
  delimiter: Delimiter;
  columns: string[];
}

export interface CsvOptions {
  /** Named in errors. */
  name: string;
  /** Of bytes that start behind the header. */
  header?: CsvHeader | null;
  /** Called once the header was read. */
  onHeader?: (header: CsvHeader) => void;
  /** Called where a record starts. With it records are found but not read: no row is given. */
  onRecord?: (start: Place) => void;
}

/** A record that has as many fields as there are columns. */
export interface RawRecord extends RawRow {
  columns: string[];
  fields: FieldSpan[];
}

type TakeRecord = (row: RawRecord) => boolean;

/**
 * @param takeRaw asked before a record is read; true = it took the row.
 * @throws AnnealError `data_rejected` from `push` or `end` when the header cannot be used.
 */
export function createCsvParser(options: CsvOptions, start: Place, takeRaw: TakeRecord = () => false): RowParser {
  const reader = new CsvReader(options, start, takeRaw);
  return parserOf(reader.window, (take, isEnd) => reader.step(take, isEnd));
}

/** First the delimiter is detected, then the header is read, then rows. */
class CsvReader {
  readonly window: ByteWindow;
  readonly #options: CsvOptions;
  readonly #takeRaw: TakeRecord;
  #delimiter: Delimiter | null;
  #columns: string[] | null;
  /** Inside a line that is too long to be held; its row was given already. */
  #isSkipping = false;

  constructor(options: CsvOptions, start: Place, takeRaw: TakeRecord) {
    this.window = new ByteWindow(start);
    this.#options = options;
    this.#takeRaw = takeRaw;
    this.#delimiter = options.header?.delimiter ?? null;
    this.#columns = options.header?.columns ?? null;
  }

  step(take: TakeRow, isEnd: boolean): boolean {
    const { window } = this;
    if (this.#isSkipping) return this.#skipLine(isEnd);
    if (window.isSpent) return false;
    if (this.#delimiter === null) return this.#detectDialect(isEnd);
    if (this.#columns !== null) this.#options.onRecord?.(window.place);
    const limit = window.at + SCAN_BYTES_MAX;
    const isLong = window.bytes.length > limit;
    const bytes = isLong ? window.bytes.subarray(0, limit) : window.bytes;
    const record = scanRecord(bytes, window.at, this.#delimiter.charCodeAt(0), isEnd && !isLong);
    if ('openQuote' in record) {
      if (!isLong) return false;
      take(this.#giveUp(record));
      return true;
    }
    const row = 'code' in record ? this.#readFault(record) : this.#readRecord(record);
    if (row !== null && this.#options.onRecord === undefined) take(row);
    return true;
  }

  /** False when the header's line is not complete. */
  #detectDialect(isEnd: boolean): boolean {
    const { window } = this;
    const next = this.#nextLine();
    if (next === null && window.rest().length > ROW_BYTES_MAX)
      throw headerError(this.#options.name, window.line, `it has no end within ${ROW_BYTES_MAX} bytes`);
    if (next === null && !isEnd) return false;
    const text = window
      .rest(next ?? undefined)
      .toString('utf8')
      .replace(/\r?\n$/, '');
    const declared = /^sep=([,;\t])$/.exec(text)?.[1] as Delimiter | undefined;
    const isBlank = text.trim() === '';
    if (!isBlank) this.#delimiter = declared ?? detectDelimiter(text);
    if (isBlank || declared !== undefined) window.moveTo(next ?? window.bytes.length);
    return true;
  }

  #skipLine(isEnd: boolean): boolean {
    const next = this.#nextLine();
    this.window.moveTo(next ?? this.window.bytes.length);
    this.#isSkipping = next === null && !isEnd;
    return !this.#isSkipping;
  }

  /** Offset behind the next line end, or null. */
  #nextLine(): number | null {
    const newline = this.window.bytes.indexOf(NEWLINE, this.window.at);
    return newline === -1 ? null : newline + 1;
  }

  /** A record that has no end within the limit. */
  #giveUp({ openQuote }: CsvOpen): ReadRow {
    const { window } = this;
    const bytes = window.rest(window.at + ROW_BYTES_MAX);
    if (this.#columns === null)
      throw headerError(this.#options.name, window.line, `it has no end within ${ROW_BYTES_MAX} bytes`);
    this.#isSkipping = true;
    if (openQuote === null) return tooLarge(window.place, bytes);
    const quoteLine = window.line + countNewlines(window.bytes, window.at, openQuote);
    const sentence = unterminatedSentence(quoteLine, `within ${ROW_BYTES_MAX} bytes`);
    const row = brokenRow(window.place, 'csv_unterminated_quote', sentence, bytes);
    window.moveTo(openQuote);
    return row;
  }

  #readFault(fault: CsvFault): ReadRow {
    const { at, line, place } = this.window;
    const sentence = fault.message(at, line);
    if (this.#columns === null) throw headerError(this.#options.name, line, sentence);
    const row = brokenRow(place, fault.code, sentence, this.window.rest(fault.next));
    this.window.moveTo(fault.next);
    return row;
  }

  /** null for the header, for a blank line, and for a row that was taken. */
  #readRecord(record: CsvRecord): ReadRow | null {
    const { window } = this;
    const { bytes, at, place } = window;
    window.moveTo(record.next);
    if (this.#columns === null) {
      this.#readHeader(bytes, at, record, place.line);
      return null;
    }
    if (this.#options.onRecord !== undefined || this.#isTaken(bytes, at, record, place)) return null;
    return isBlank(bytes, at, record) ? null : toRow(bytes, at, record, this.#columns, place);
  }

  #isTaken(source: Buffer, from: number, { end: to, fields }: CsvRecord, { line, offset }: Place): boolean {
    const columns = this.#columns as string[];
    if (fields.length !== columns.length || to - from > ROW_BYTES_MAX) return false;
    return this.#takeRaw({ line, offset, source, from, to, columns, fields });
  }

  #readHeader(bytes: Buffer, from: number, record: CsvRecord, line: number): void {
    if (isBlank(bytes, from, record)) return;
    const { name, onHeader } = this.#options;
    if (!isUtf8(bytes.subarray(from, record.end)))
      throw headerError(name, line, 'it has bytes that are not UTF-8; save the file as UTF-8');
    this.#columns = record.fields.map((field) => decodeField(bytes, field).trim());
    const twice = this.#columns.find((column, i, all) => column !== '' && all.indexOf(column) !== i);
    if (twice !== undefined) throw headerError(name, line, `it names the column "${twice}" twice; rename one`);
    onHeader?.({ delimiter: this.#delimiter as Delimiter, columns: this.#columns });
  }
}

/** A line of white space is no row. */
function isBlank(bytes: Buffer, from: number, { fields }: CsvRecord): boolean {
  const [first] = fields;
  if (first === undefined || fields.length > 1 || first.from !== from) return false;
  return decodeField(bytes, first).trim() === '';
}

function toRow(bytes: Buffer, from: number, record: CsvRecord, columns: string[], place: Place): ReadRow {
  const whole = bytes.subarray(from, record.end);
  if (whole.length > ROW_BYTES_MAX) return tooLarge(place, whole.subarray(0, ROW_BYTES_MAX));
  if (!isUtf8(whole)) return invalidUtf8(whole, place);
  if (record.fields.length !== columns.length) return wrongColumns(record.fields.length, columns, whole, place);
  return new CsvRow(place, whole, columns, (column) => decodeField(bytes, record.fields[column] as FieldSpan));
}

/** The row of a record that was not read. */
export function readRecord({ line, offset, source, from, to, columns, fields }: RawRecord): CsvRow {
  const whole = source.subarray(from, to);
  return new CsvRow({ line, offset }, whole, columns, (column) => decodeField(source, fields[column] as FieldSpan));
}

/** Its cells are decoded when they are asked for. */
export class CsvRow implements GoodRow {
  readonly line: number;
  readonly offset: number;
  readonly bytes: Buffer;
  readonly columns: string[];
  readonly #decode: (column: number) => string;

  constructor({ line, offset }: Place, bytes: Buffer, columns: string[], decode: (column: number) => string) {
    this.line = line;
    this.offset = offset;
    this.bytes = bytes;
    this.columns = columns;
    this.#decode = decode;
  }

  /** The text in the column of that number. */
  cell(column: number): string {
    return this.#decode(column);
  }

  get value(): Record<string, string> {
    const value: Record<string, string> = {};
    for (let i = 0; i < this.columns.length; i++) setField(value, this.columns[i] as string, this.cell(i));
    return value;
  }

  get text(): string {
    return this.bytes.toString('utf8');
  }
}

/** A column may have any name. */
function setField(row: Record<string, string>, name: string, value: string): void {
  if (name !== '__proto__') row[name] = value;
  else Object.defineProperty(row, name, { value, enumerable: true, configurable: true, writable: true });
}

function wrongColumns(found: number, columns: string[], bytes: Buffer, place: Place): ReadRow {
  const code = found < columns.length ? 'csv_missing_columns' : 'csv_too_many_columns';
  const fix = found < columns.length ? 'add what is missing' : 'put fields that hold the delimiter into quotes';
  const message = `the row has ${plural(found, 'column')}, the header has ${columns.length} (${columns.join(', ')}); ${fix}`;
  const mismatch = { expected: plural(columns.length, 'column'), found: plural(found, 'column') };
  return { ...brokenRow(place, code, message, bytes), mismatch };
}

function headerError(name: string, line: number, what: string): AnnealError {
  return new AnnealError('data_rejected', `The CSV header of ${name} (line ${line}) cannot be used: ${what}.`);
}

function detectDelimiter(header: string): Delimiter {
  const unquoted = header.replaceAll(/"[^"]*"/g, '');
  const counts = DELIMITERS.map((delimiter) => unquoted.split(delimiter).length);
  return DELIMITERS[counts.indexOf(Math.max(...counts))] as Delimiter;
}
