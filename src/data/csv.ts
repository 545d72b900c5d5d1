// Reads CSV with a header row (RFC 4180; `,`, `;` or tab), with physical line numbers also where a quoted field spans lines.
// A broken quote costs one row: reading goes on at the line after the one on which the quote stands.
import { AnnealError } from '../contracts/failure.ts';
import { ByteWindow, parserOf } from './byte-window.ts';
import { type CsvFault, type CsvOpen, type CsvRecord, scanRecord, unterminatedSentence } from './csv-scan.ts';
import {
  brokenRow,
  countNewlines,
  invalidUtf8,
  type ReadRow,
  ROW_BYTES_MAX,
  type RowParser,
  tooLarge,
} from './rows-read.ts';

const NEWLINE = 10;

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
  const reader = new CsvReader(options);
  return parserOf(reader.window, (rows, isEnd) => reader.step(rows, isEnd));
}

/** First the delimiter is detected, then the header is read, then rows. */
class CsvReader {
  readonly window = new ByteWindow();
  readonly #options: CsvOptions;
  #delimiter: Delimiter | null = null;
  #columns: string[] | null = null;
  /** Inside a line that is too long to be held; its row was given already. */
  #isSkipping = false;

  constructor(options: CsvOptions) {
    this.#options = options;
  }

  step(rows: ReadRow[], isEnd: boolean): boolean {
    const { window } = this;
    if (this.#isSkipping) return this.#skipLine(isEnd);
    if (window.isSpent) return false;
    if (this.#delimiter === null) return this.#detectDialect(isEnd);
    const record = scanRecord(window.bytes, window.at, this.#delimiter.charCodeAt(0), isEnd);
    if ('openQuote' in record) {
      if (window.bytes.length - window.at <= ROW_BYTES_MAX) return false;
      rows.push(this.#giveUp(record));
      return true;
    }
    const row = 'code' in record ? this.#readFault(record) : this.#readRecord(record);
    if (row !== null) rows.push(row);
    return true;
  }

  /** False when the header's line is not complete. */
  #detectDialect(isEnd: boolean): boolean {
    const next = this.#nextLine();
    if (next === null && !isEnd) return false;
    const text = this.window
      .rest(next ?? undefined)
      .toString('utf8')
      .replace(/\r?\n$/, '');
    const declared = /^sep=([,;\t])$/.exec(text)?.[1] as Delimiter | undefined;
    const isBlank = text.trim() === '';
    if (!isBlank) this.#delimiter = declared ?? detectDelimiter(text);
    if (isBlank || declared !== undefined) this.window.moveTo(next ?? this.window.bytes.length);
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
    const row =
      openQuote === null
        ? tooLarge(window.line, window.rest())
        : unterminated(window, openQuote, `within ${ROW_BYTES_MAX} bytes`);
    if (openQuote !== null) window.moveTo(openQuote);
    this.#isSkipping = true;
    return row;
  }

  #readFault(fault: CsvFault): ReadRow {
    const { at, line } = this.window;
    const sentence = fault.message(at, line);
    if (this.#columns === null) throw headerError(this.#options.name, line, sentence);
    const row = brokenRow(line, fault.code, sentence, this.window.rest(fault.next));
    this.window.moveTo(fault.next);
    return row;
  }

  /** null for the header, and for a blank line. */
  #readRecord(record: CsvRecord): ReadRow | null {
    const { line } = this.window;
    const bytes = this.window.rest(record.end);
    this.window.moveTo(record.next);
    if (record.isBlank) return null;
    if (this.#columns !== null) return toRow(record, this.#columns, bytes, line);
    this.#columns = checkHeader(record, this.#options.name, line);
    this.#options.onHeader?.({ delimiter: this.#delimiter as Delimiter, columns: this.#columns });
    return null;
  }
}

function unterminated({ bytes, at, line }: ByteWindow, open: number, within: string): ReadRow {
  const sentence = unterminatedSentence(line + countNewlines(bytes, at, open), within);
  return brokenRow(line, 'csv_unterminated_quote', sentence, bytes.subarray(at));
}

function toRow(record: CsvRecord, columns: string[], bytes: Buffer, line: number): ReadRow {
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
