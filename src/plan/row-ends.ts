// Where the last whole row of a source's beginning ends, for each format. Pure.
import { findElementEnd, skipSpace } from '../data/json-scan.ts';
import type { Format } from '../data/readers.ts';

export interface RowsEnd {
  /** Offset behind the last row. */
  end: number;
  /** What must follow it for the text to be whole. */
  closing: Buffer;
}

const NEWLINE = 10;
const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_BRACKET = 0x5b;
const NOTHING = Buffer.alloc(0);

/** Behind the last row that ends within `bytesMax`, else behind the first; null when no row has an end yet. */
export function endOfRows(head: Buffer, format: Format, bytesMax: number): RowsEnd | null {
  switch (format) {
    case 'jsonl':
      return endingAt(lastWithin(head, bytesMax, () => true));
    case 'csv':
      return endingAt(lastWithin(head, bytesMax, outsideQuotes(head)));
    case 'json':
      return endOfElements(head, bytesMax);
    default:
      format satisfies never;
      return null;
  }
}

function endingAt(end: number | null): RowsEnd | null {
  return end === null ? null : { end, closing: NOTHING };
}

/** Behind a newline that counts. */
function lastWithin(head: Buffer, bytesMax: number, counts: (newline: number) => boolean): number | null {
  let last: number | null = null;
  for (let at = head.indexOf(NEWLINE); at >= 0; at = head.indexOf(NEWLINE, at + 1)) {
    if (at >= bytesMax && last !== null) break;
    if (counts(at)) last = at + 1;
  }
  return last;
}

/** Whether a newline ends a record; to be asked in ascending order. */
function outsideQuotes(head: Buffer): (newline: number) => boolean {
  let quotes = 0;
  let counted = 0;
  return (newline) => {
    for (let at = head.indexOf(QUOTE, counted); at >= 0 && at < newline; at = head.indexOf(QUOTE, at + 1)) quotes++;
    counted = newline;
    return quotes % 2 === 0;
  };
}

/** What is no array, or has a broken element, is cut anywhere: its reader says what is wrong. */
function endOfElements(head: Buffer, bytesMax: number): RowsEnd | null {
  const start = skipSpace(head, head.subarray(0, 3).equals(Buffer.from('\ufeff')) ? 3 : 0);
  const anywhere = { end: Math.min(bytesMax, head.length), closing: NOTHING };
  if (head[start] !== OPEN_BRACKET) return anywhere;
  let last: number | null = null;
  for (let at = start + 1; at < head.length; ) {
    const { outcome, offset } = findElementEnd(head, skipSpace(head, at));
    if (outcome === 'broken') return last === null ? anywhere : { end: last, closing: Buffer.from(']') };
    if (outcome === 'more' || (offset > bytesMax && last !== null)) break;
    last = offset;
    if (head[offset] !== COMMA) break;
    at = offset + 1;
  }
  return last === null ? null : { end: last, closing: Buffer.from(']') };
}
