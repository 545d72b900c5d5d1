// One row's way through a range, up to where it is written: mapped, filtered, its private texts dealt with, grouped. Pure: no I/O.
import { hash } from 'node:crypto';
import { createPreviewer } from '../columns/drop.ts';
import { CsvRow } from '../csv.ts';
import { type Content, createRowMapper, groupTextOf, isPlainMapping, type Mapped, type Mapping } from '../mapping.ts';
import { type BrokenRow, type GoodRow, previewOf } from '../rows-read.ts';
import { RowFault } from '../turns.ts';
import { canBeFast, readFastChat } from './fast-chat.ts';
import { createFastPair, type ReadFastPair } from './fast-pair.ts';

/** A row that was mapped, with the JSON text of its content. */
export interface MappedRow extends Mapped {
  row: GoodRow;
  /** For the fast way without its braces, as it stands in the source; then `bytes` are the same. */
  json: string;
  bytes: Buffer | null;
}

export type MapRow = (row: GoodRow) => MappedRow | BrokenRow;

const NOTHING: never[] = [];

/** @param onSlow called for each row that could not take the fast way. */
export function createMapRow(mapping: Mapping, onSlow: () => void): MapRow {
  const breakRow = createBreakRow(mapping.dropColumns ?? []);
  const mapSlow = createRowMapper(mapping);
  const mapFast = isPlainMapping(mapping) && canBeFast(mapping) ? createFastMap(mapping) : () => null;
  return (row) => {
    const fast = mapFast(row);
    if (fast !== null) return fast;
    onSlow();
    try {
      const mapped = mapSlow(row.value);
      return { row, ...mapped, json: JSON.stringify(mapped.content), bytes: null };
    } catch (error) {
      if (error instanceof RowFault) return breakRow(row, error);
      // V8 parses deeper nesting than it can write.
      if (error instanceof RangeError) return breakRow(row, TOO_DEEP);
      throw error;
    }
  };
}

const TOO_DEEP = { code: 'wrong_type', path: '', message: 'the row is nested too deeply; flatten it' } as const;

function createFastMap({ shape }: Mapping): (row: GoodRow) => MappedRow | null {
  let columns: string[] | null = null;
  let readPair: ReadFastPair | null = null;
  return (row) => {
    if (!(row instanceof CsvRow)) return mapFastChat(row);
    if (row.columns !== columns) {
      columns = row.columns;
      readPair = shape === 'auto' ? createFastPair(columns) : null;
    }
    const pair = readPair?.(row) ?? null;
    return pair && { row, content: pair.content, json: pair.text, bytes: null, fixed: NOTHING, warned: NOTHING };
  };
}

function mapFastChat(row: GoodRow): MappedRow | null {
  const chat = readFastChat(row.text, row.value);
  if (chat === null) return null;
  const json = row.text.slice(chat.from, chat.to);
  return { row, content: chat.content, json, bytes: sourceBytes(row, chat), fixed: NOTHING, warned: NOTHING };
}

/** The bytes of a part of the row's text. */
function sourceBytes({ bytes, text }: GoodRow, { from, to }: { from: number; to: number }): Buffer {
  if (bytes.length === text.length) return bytes.subarray(from, to);
  const before = Buffer.byteLength(text.slice(0, from));
  const after = Buffer.byteLength(text.slice(to));
  return bytes.subarray(before, bytes.length - after);
}

type Fault = Pick<BrokenRow, 'code' | 'path' | 'message'>;
export type BreakRow = (row: GoodRow, fault: Fault) => BrokenRow;

/** What is shown of a row holds none of the columns that are dropped. */
export function createBreakRow(dropColumns: readonly string[]): BreakRow {
  const preview = createPreviewer(dropColumns);
  const shown = (row: GoodRow) =>
    dropColumns.length === 0 ? previewOf(row.bytes) : preview({ value: row.value, text: row.bytes });
  return (row, { code, path, message }) => {
    const { line, offset, bytes } = row;
    return { line, offset, sizeBytes: bytes.length, code, path, message, preview: shown(row) };
  };
}

/** The row with another content. */
export function withContent(mapped: MappedRow, content: Content): MappedRow {
  return content === mapped.content ? mapped : { ...mapped, content, json: JSON.stringify(content), bytes: null };
}

/** 16 hex digits: of the field's value, or of the row's own text where it has none. */
export function groupOf(row: unknown, content: Content, groupBy: string | null): { group: string; isGiven: boolean } {
  const fields = row as Record<string, unknown>;
  const value = groupBy !== null && Object.hasOwn(fields, groupBy) ? fields[groupBy] : null;
  const isGiven = value !== undefined && value !== null && value !== '';
  const key = isGiven ? (typeof value === 'string' ? value : JSON.stringify(value)) : plainText(groupTextOf(content));
  return { group: hash('sha256', key, 'hex').slice(0, 16), isGiven };
}

/** White space that is not a single blank, which most texts have none of: looked for one by one, that is fastest. */
const ODD_SPACES = ['  ', ...'\t\n\v\f\r\u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff', ...quads()];

/** The blanks of typesetting, U+2000 to U+200A. */
function quads(): string[] {
  return Array.from({ length: 11 }, (_, i) => String.fromCharCode(0x2000 + i));
}

/** Case and white space do not make another question. */
function plainText(text: string): string {
  const plain = text.trim().toLowerCase();
  return ODD_SPACES.some((space) => plain.includes(space)) ? plain.replaceAll(/\s+/g, ' ') : plain;
}
