// Reads a file that is one JSON array, element by element, so that a broken element costs itself and not the file.
//
// States:
// - `start`: nothing but white space seen; `[` is next.
// - `element`: an element, or `]`, is next. A comma too many is passed over.
// - `after`: an element has ended; `,` or `]` is next.
// - `seeking`: an element was broken; the next text that looks like the start of one is sought: `{` with the first key that the
//   elements have, or, when none is known, `{` as the first character of a line.
//   Elements without that key which follow an element that is not closed are lost in it: they count as one row with it.
// - `done`: `]` was read. More text is a broken row, and what looks like an element in it is read.
// - `ignoring`: the file is no array at all.
import { isUtf8 } from 'node:buffer';
import {
  brokenRow,
  countNewlines,
  invalidUtf8,
  isBroken,
  PREVIEW_CHARS_MAX,
  parseJsonRow,
  type ReadRow,
  ROW_BYTES_MAX,
  type RowParser,
  tooLarge,
} from './rows-read.ts';

type State = 'start' | 'element' | 'after' | 'seeking' | 'done' | 'ignoring';

const OPEN_BRACE = 0x7b;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACE = 0x7d;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const NEWLINE = 10;

/** Bytes kept while seeking: the start of an element may lie across two chunks. */
const SEEK_TAIL_BYTES = 4096;

/** Bytes waited for before text outside an array is previewed, so that the preview does not depend on the chunks. */
const PREVIEW_BYTES = 4 * PREVIEW_CHARS_MAX;

export function createJsonArrayParser(): RowParser {
  let buffer: Buffer = Buffer.alloc(0);
  let at = 0;
  let line = 1;
  let state: State = 'start';
  /** The first key of the elements, in its quotes. */
  let firstKey: string | null = null;

  const moveTo = (next: number) => {
    line += countNewlines(buffer, at, next);
    at = next;
  };

  /** Reads the element at `at`; null when more bytes are needed. */
  const readElement = (isEnd: boolean): ReadRow | null => {
    const { outcome, offset } = findElementEnd(buffer, at);
    if (offset - at > ROW_BYTES_MAX) return giveUp(tooLarge(line, buffer.subarray(at)));
    if (outcome === 'end') return readClosed(offset);
    if (outcome === 'more' && !isEnd) return null;
    return giveUpBefore(offset);
  };

  const readClosed = (end: number): ReadRow => {
    const row = parseJsonRow(trimEnd(buffer.subarray(at, end)), line);
    // A string that is not closed may seem to be closed by a later one.
    if (isBroken(row) && findElementStart(buffer, at + 1, end, learnFirstKey()) !== null) return giveUpBefore(end);
    learnFirstKey();
    moveTo(end);
    state = 'after';
    return row;
  };

  const learnFirstKey = () => {
    firstKey ??= firstKeyOf(buffer.subarray(at, at + SEEK_TAIL_BYTES));
    return firstKey;
  };

  /** Gives up the element, which has no end before the offset; it reaches to the next one at most. */
  const giveUpBefore = (offset: number): ReadRow => {
    const next = findElementStart(buffer, at + 1, offset, learnFirstKey());
    return giveUp(describeOpen(trimEnd(buffer.subarray(at, next ?? offset)), line));
  };

  const giveUp = (row: ReadRow): ReadRow => {
    learnFirstKey();
    moveTo(at + 1);
    state = 'seeking';
    return row;
  };

  const seek = (isEnd: boolean): boolean => {
    const next = findElementStart(buffer, at, buffer.length, firstKey);
    if (next !== null) {
      moveTo(next);
      state = 'element';
      return true;
    }
    moveTo(isEnd ? buffer.length : Math.max(at, buffer.length - SEEK_TAIL_BYTES));
    return false;
  };

  /** Text outside an array. */
  const readAstray = (): ReadRow => {
    const message =
      state === 'done'
        ? 'text follows the end of the array; take the `]` before it away, or the text'
        : 'the file must be a JSON array of rows; put the rows into [ ], or set `format` to jsonl';
    state = state === 'done' ? 'seeking' : 'ignoring';
    return brokenRow(line, 'invalid_json', message, buffer.subarray(at));
  };

  /** One step; `false` when more bytes are needed. */
  const step = (rows: ReadRow[], isEnd: boolean): boolean => {
    if (state === 'seeking') return seek(isEnd);
    if (state === 'ignoring') moveTo(buffer.length);
    moveTo(skipSpace(buffer, at));
    if (at === buffer.length) return false;
    const byte = buffer[at];
    const isAstray = state === 'done' || (state === 'start' && byte !== OPEN_BRACKET);
    if (isAstray) {
      if (!isEnd && buffer.length - at < PREVIEW_BYTES) return false;
      rows.push(readAstray());
    } else if (state === 'start') {
      moveTo(at + 1);
      state = 'element';
    } else if (byte === CLOSE_BRACKET) {
      moveTo(at + 1);
      state = 'done';
    } else if (byte === COMMA) {
      moveTo(at + 1);
      state = 'element';
    } else {
      const row = readElement(isEnd);
      if (row === null) return false;
      rows.push(row);
    }
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
    end() {
      const rows = drain(true);
      if (state !== 'element' && state !== 'after') return rows;
      const message = 'the array is not closed by `]`; the file seems cut off, fetch it again';
      return [...rows, brokenRow(line, 'invalid_json', message, Buffer.alloc(0))];
    },
  };
}

/** The reason for an element that has no end. */
function describeOpen(bytes: Buffer, line: number): ReadRow {
  if (!isUtf8(bytes)) return invalidUtf8(bytes, line);
  const message = 'the element has a string, bracket or brace that is not closed; write it with a JSON library';
  return brokenRow(line, 'invalid_json', message, bytes);
}

interface ElementEnd {
  /** `end`: at the `,` or `]` behind it. `broken`: a line ends inside a string, which JSON does not allow. `more`: no end yet. */
  outcome: 'end' | 'broken' | 'more';
  offset: number;
}

function findElementEnd(bytes: Buffer, from: number): ElementEnd {
  let depth = 0;
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at] as number;
    if (byte === QUOTE) {
      at = findStringEnd(bytes, at + 1);
      if (bytes[at] === NEWLINE) return { outcome: 'broken', offset: at };
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth++;
    } else if (depth === 0 && (byte === COMMA || byte === CLOSE_BRACKET)) {
      return { outcome: 'end', offset: at };
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      depth = Math.max(0, depth - 1);
    }
  }
  return { outcome: 'more', offset: bytes.length };
}

/** The offset of the closing quote, of a line end before it, or of the end of the bytes. */
function findStringEnd(bytes: Buffer, from: number): number {
  let at = from;
  for (; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE || byte === NEWLINE) return at;
    if (byte === BACKSLASH) at++;
  }
  return bytes.length;
}

function findElementStart(bytes: Buffer, from: number, to: number, firstKey: string | null): number | null {
  for (let at = bytes.indexOf(OPEN_BRACE, from); at !== -1 && at < to; at = bytes.indexOf(OPEN_BRACE, at + 1)) {
    if (firstKey === null ? startsLine(bytes, at) : hasKeyNext(bytes, at + 1, firstKey)) return at;
  }
  return null;
}

function hasKeyNext(bytes: Buffer, from: number, key: string): boolean {
  const at = skipSpace(bytes, from);
  return bytes.toString('latin1', at, at + key.length) === key;
}

function startsLine(bytes: Buffer, at: number): boolean {
  let before = at - 1;
  while (before >= 0 && (bytes[before] === 32 || bytes[before] === 9)) before--;
  return bytes[before] === NEWLINE;
}

/** The first key of an object in its quotes, one character a byte; null when there is none. */
function firstKeyOf(bytes: Buffer): string | null {
  return /^\{\s*("(?:[^"\\\n]|\\.)*")\s*:/.exec(bytes.toString('latin1'))?.[1] ?? null;
}

function skipSpace(bytes: Buffer, from: number): number {
  let at = from;
  while (at < bytes.length && isSpace(bytes[at] as number)) at++;
  return at;
}

function trimEnd(bytes: Buffer): Buffer {
  let end = bytes.length;
  while (end > 0 && (isSpace(bytes[end - 1] as number) || bytes[end - 1] === COMMA)) end--;
  return bytes.subarray(0, end);
}

function isSpace(byte: number): boolean {
  return byte === 32 || byte === 9 || byte === NEWLINE || byte === 13;
}
