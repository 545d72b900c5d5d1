// What a reader makes of a source: rows with their physical line, or the reason why a row could not be read.
import { isUtf8 } from 'node:buffer';
import { toUSVString } from 'node:util';
import type { DropCode, QuarantinedRow } from '../contracts/rows.ts';

/** Longest row, bytes: a row is held in memory whole, and a longer one is no training example but a missing line end or quote. */
export const ROW_BYTES_MAX = 16 * 1024 * 1024;

/** Longest preview of a row, characters: enough to find it, short enough for a page. */
export const PREVIEW_CHARS_MAX = 200;

/** What decoding puts in the place of invalid bytes, and its own bytes. */
const REPLACEMENT = '\ufffd';
const REPLACEMENT_BYTES = '\xef\xbf\xbd';

export interface GoodRow {
  /** 1-based physical line on which the row starts. */
  line: number;
  value: unknown;
  /** The row as it stands in the source. */
  text: string;
}

/** `message` is a sentence without the place, which only the caller knows. */
export interface BrokenRow {
  line: number;
  code: DropCode;
  path: string;
  message: string;
  preview: string;
}

export type ReadRow = GoodRow | BrokenRow;

/** Takes bytes in pieces of any size; gives the rows that are complete. The same bytes give the same rows, however they are cut. */
export interface RowParser {
  push(chunk: Buffer): ReadRow[];
  /** The rows that the end of the source completes. */
  end(): ReadRow[];
}

export function isBroken(row: ReadRow): row is BrokenRow {
  return 'code' in row;
}

export function previewOf(text: Buffer | string): string {
  const start = typeof text === 'string' ? text : text.toString('utf8', 0, PREVIEW_CHARS_MAX * 4);
  return toUSVString(start.slice(0, PREVIEW_CHARS_MAX)).trimEnd();
}

export function brokenRow(line: number, code: DropCode, message: string, bytes: Buffer): BrokenRow {
  return { line, code, path: '', message, preview: previewOf(bytes) };
}

export function tooLarge(line: number, bytes: Buffer): BrokenRow {
  const message = `the row is longer than ${ROW_BYTES_MAX} bytes; split it, or look for a missing line end or quote`;
  return brokenRow(line, 'too_large', message, bytes);
}

/** A line of the quarantine: the broken row with its place. */
export function quarantinedRow({ line, code, path, message, preview }: BrokenRow, name: string): QuarantinedRow {
  return { source: name, line, code, path, message: `${name} line ${line}: ${message}`, preview };
}

/** Parses the JSON text of one row. */
export function parseJsonRow(bytes: Buffer, line: number): ReadRow {
  if (!isUtf8(bytes)) return invalidUtf8(bytes, line);
  const text = bytes.toString('utf8');
  try {
    return { line, value: JSON.parse(text) as unknown, text };
  } catch (error) {
    const message = `the row is not valid JSON: ${parserReason(error)}; write it with a JSON library`;
    return brokenRow(line, 'invalid_json', message, bytes);
  }
}

export function invalidUtf8(bytes: Buffer, line: number): BrokenRow {
  const message = `the row has bytes that are not UTF-8 (first at byte ${firstInvalidByte(bytes)} of it); save the file as UTF-8`;
  return brokenRow(line, 'invalid_utf8', message, bytes);
}

export function countNewlines(bytes: Buffer, from: number, to: number): number {
  let count = 0;
  for (let at = bytes.indexOf(10, from); at !== -1 && at < to; at = bytes.indexOf(10, at + 1)) count++;
  return count;
}

/** V8 adds a position as line and column of the row's own text, which would be taken for the file's. */
function parserReason(error: unknown): string {
  const reason = (error instanceof Error ? error.message : String(error))
    .replace(/ \(line \d+ column \d+\)/, '')
    .replace(/, (?:\.\.\.)?"[\s\S]*" is not valid JSON$/, '')
    .replace(/(?: in JSON)? at position (\d+)/, (_, position: string) => ` at character ${Number(position) + 1}`);
  return toUSVString(reason);
}

/** 1-based. */
function firstInvalidByte(bytes: Buffer): number {
  const replaced = bytes.toString('utf8');
  for (let at = replaced.indexOf(REPLACEMENT); at !== -1; at = replaced.indexOf(REPLACEMENT, at + 1)) {
    const offset = Buffer.byteLength(replaced.slice(0, at));
    if (bytes.toString('latin1', offset, offset + 3) !== REPLACEMENT_BYTES) return offset + 1;
  }
  return bytes.length;
}
