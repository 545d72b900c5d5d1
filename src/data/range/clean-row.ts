// One row's way through a range, up to where it is written: mapped, filtered, its private texts dealt with, grouped. Pure: no I/O.
import { createPreviewer } from '../columns/drop.ts';
import { type Content, createRowMapper, type Mapped, type Mapping } from '../mapping.ts';
import { type BrokenRow, type GoodRow, previewOf } from '../rows-read.ts';
import { RowFault } from '../turns.ts';
import { digestGroup } from './plain-text.ts';

/** A row that was mapped, with the JSON text of its content. */
export interface MappedRow extends Mapped {
  row: GoodRow;
  json: string;
}

export type MapRow = (row: GoodRow) => MappedRow | BrokenRow;

export function createMapRow(mapping: Mapping): MapRow {
  const breakRow = createBreakRow(mapping.dropColumns ?? []);
  const map = createRowMapper(mapping);
  return (row) => {
    try {
      const mapped = map(row.value);
      return { row, ...mapped, json: JSON.stringify(mapped.content) };
    } catch (error) {
      if (error instanceof RowFault) return breakRow(row, error);
      // V8 parses deeper nesting than it can write.
      if (error instanceof RangeError) return breakRow(row, TOO_DEEP);
      throw error;
    }
  };
}

const TOO_DEEP = { code: 'wrong_type', path: '', message: 'the row is nested too deeply; flatten it' } as const;

type Fault = Pick<BrokenRow, 'code' | 'path' | 'message' | 'mismatch'>;
export type BreakRow = (row: GoodRow, fault: Fault) => BrokenRow;

/** What is shown of a row holds none of the columns that are dropped. */
export function createBreakRow(dropColumns: readonly string[]): BreakRow {
  const preview = createPreviewer(dropColumns);
  const shown = (row: GoodRow) =>
    dropColumns.length === 0 ? previewOf(row.bytes) : preview({ value: row.value, text: row.bytes });
  return (row, { code, path, message, mismatch }) => {
    const { line, offset, bytes } = row;
    const fault = { code, path, message, ...(mismatch && { mismatch }) };
    return { line, offset, sizeBytes: bytes.length, ...fault, preview: shown(row) };
  };
}

/** The row with another content. */
export function withContent(mapped: MappedRow, content: Content): MappedRow {
  return content === mapped.content ? mapped : { ...mapped, content, json: JSON.stringify(content) };
}

/** 16 hex digits: of the field's value, or of the row's own plain text where it has none. */
export function groupOf(value: unknown, ownText: () => string | Uint8Array): { group: string; isGiven: boolean } {
  const isGiven = value !== undefined && value !== null && value !== '';
  const key = isGiven ? (typeof value === 'string' ? value : JSON.stringify(value)) : ownText();
  return { group: digestGroup(key), isGiven };
}
