// Finds where elements of a JSON array begin and end, in bytes that may be broken. Nothing here parses JSON.

const OPEN_BRACE = 0x7b;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACE = 0x7d;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const NEWLINE = 10;

interface ElementEnd {
  /** `end`: at the `,` or `]` behind it. `broken`: a line ends inside a string, which JSON does not allow. `more`: no end yet. */
  outcome: 'end' | 'broken' | 'more';
  offset: number;
}

export function findElementEnd(bytes: Buffer, from: number): ElementEnd {
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

export function findElementStart(bytes: Buffer, from: number, to: number, firstKey: string | null): number | null {
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
export function firstKeyOf(bytes: Buffer): string | null {
  return /^\{\s*("(?:[^"\\\n]|\\.)*")\s*:/.exec(bytes.toString('latin1'))?.[1] ?? null;
}

export function skipSpace(bytes: Buffer, from: number): number {
  let at = from;
  while (at < bytes.length && isSpace(bytes[at] as number)) at++;
  return at;
}

export function trimEnd(bytes: Buffer): Buffer {
  let end = bytes.length;
  while (end > 0 && (isSpace(bytes[end - 1] as number) || bytes[end - 1] === COMMA)) end--;
  return bytes.subarray(0, end);
}

function isSpace(byte: number): boolean {
  return byte === 32 || byte === 9 || byte === NEWLINE || byte === 13;
}
