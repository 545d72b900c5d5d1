// What a reader makes of a source: rows with their physical line, or the reason why a row could not be read.
import { isAscii, isUtf8 } from 'node:buffer';
import { toUSVString } from 'node:util';
import type { DropCode, QuarantinedRow } from '../contracts/rows.ts';
import { redactPreview } from './privacy/redact.ts';
import type { Mismatch } from './turns.ts';

/** Longest row, bytes: a row is held in memory whole, and a longer one is no training example but a missing line end or quote. */
export const ROW_BYTES_MAX = 16 * 1024 * 1024;

/** Longest preview of a row, characters: enough to find it, short enough for a page. */
export const PREVIEW_CHARS_MAX = 200;

/** Looked at for a preview, so that personal data at its cut is recognised: the longest keys have about as many. */
const SEEN_CHARS = 2300;

/** What decoding puts in the place of invalid bytes, and its own bytes. */
const REPLACEMENT = '\ufffd';
const REPLACEMENT_BYTES = '\xef\xbf\xbd';

/** Where a row starts in its source: 1-based physical line, and offset in bytes. */
export interface Place {
  line: number;
  offset: number;
}

export interface GoodRow extends Place {
  value: unknown;
  /** The row as it stands in the source, valid UTF-8, and its text. */
  bytes: Buffer;
  text: string;
}

/** A row as it lies in the bytes that a parser holds, [from, to), not decoded yet; valid until whoever is given it returns. */
export interface RawRow extends Place {
  source: Buffer;
  from: number;
  to: number;
}

/** `message` is a sentence without the place, which only the caller knows. */
export interface BrokenRow extends Place {
  /** As far as it was read. */
  sizeBytes: number;
  code: DropCode;
  path: string;
  message: string;
  mismatch?: Mismatch | null;
  preview: string;
  /** Of a row that is no UTF-8, as it stands in the source; valid until the next one. */
  bytes?: Buffer;
}

/** What the quarantine takes: where the row's bytes lie is not known of all. */
type PlacedFault = Omit<BrokenRow, 'offset' | 'sizeBytes'> & Partial<BrokenRow>;

export type ReadRow = GoodRow | BrokenRow;

export type TakeRow = (row: ReadRow) => void;

/**
 * Takes bytes in pieces of any size; gives the rows that are complete. The same bytes give the same rows, however they are cut.
 * No piece is held once `push` returned; a row's bytes are valid until the next one.
 */
export interface RowParser {
  push(chunk: Buffer, take: TakeRow): void;
  /** Gives the rows that the end of the source completes. */
  end(take: TakeRow): void;
  /** Where the next row starts at the earliest: what lies before it was given. */
  readonly at: Place;
}

export function isBroken(row: ReadRow): row is BrokenRow {
  return 'code' in row;
}

export function previewOf(text: Buffer | string): string {
  const start = typeof text === 'string' ? text.slice(0, SEEN_CHARS) : text.toString('utf8', 0, SEEN_CHARS);
  return toUSVString(redactPreview(start).slice(0, PREVIEW_CHARS_MAX)).trimEnd();
}

export function brokenRow({ line, offset }: Place, code: DropCode, message: string, bytes: Buffer): BrokenRow {
  return { line, offset, sizeBytes: bytes.length, code, path: '', message, preview: previewOf(bytes) };
}

export function tooLarge(place: Place, bytes: Buffer): BrokenRow {
  const message = `the row is longer than ${ROW_BYTES_MAX} bytes; split it, or look for a missing line end or quote`;
  return brokenRow(place, 'too_large', message, bytes);
}

/** A line of the quarantine: the broken row with its place. */
export function quarantinedRow(
  { line, offset, sizeBytes, code, path, message, mismatch, preview }: PlacedFault,
  name: string,
): QuarantinedRow {
  const place = { source: name, line, byteOffset: offset, byteLength: sizeBytes };
  const sentence = `${name} line ${line}: ${redactPreview(message)}`;
  const values = mismatch && { expected: mismatch.expected, found: redactPreview(mismatch.found) };
  return { ...place, code, path, message: sentence, ...values, preview };
}

/** Parses the JSON text of one row. */
export function parseJsonRow(bytes: Buffer, place: Place): ReadRow {
  // Decoded without a look at each byte, in a third of the time.
  const isPlain = isAscii(bytes);
  if (!isPlain && !isUtf8(bytes)) return invalidUtf8(bytes, place);
  const text = bytes.toString(isPlain ? 'latin1' : 'utf8');
  try {
    const value = JSON.parse(text) as unknown;
    return { line: place.line, offset: place.offset, value, bytes, text };
  } catch (error) {
    // What Python's own library writes for them is no JSON.
    const fix = /[:,[]\s*(?:NaN|-?Infinity)\b/.test(text)
      ? 'write null for NaN and Infinity'
      : 'write it with a JSON library';
    const message = `the row is not valid JSON: ${parserReason(error)}; ${fix}`;
    return brokenRow(place, 'invalid_json', message, bytes);
  }
}

export function invalidUtf8(bytes: Buffer, place: Place): BrokenRow {
  const message = `the row has bytes that are not UTF-8 (first at byte ${firstInvalidByte(bytes)} of it); save the file as UTF-8`;
  return { ...brokenRow(place, 'invalid_utf8', message, bytes), bytes };
}

export function countNewlines(bytes: Uint8Array, from = 0, to = bytes.length): number {
  const part = bytes.subarray(from, to);
  let count = 0;
  for (let at = part.indexOf(10); at !== -1; at = part.indexOf(10, at + 1)) count++;
  return count;
}

/** V8 adds a position as line and column of the row's own text, which would be taken for the file's. */
function parserReason(error: unknown): string {
  const reason = (error instanceof Error ? error.message : String(error))
    .replace(/ \(line \d+ column \d+\)/, '')
    .replace(/, (?:\.\.\.)?"[\s\S]*"(?:\.\.\.)? is not valid JSON$/, '')
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
