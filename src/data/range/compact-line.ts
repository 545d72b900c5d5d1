// Writes a row's JSON text as `JSON.stringify` would where another library wrote it in its own way: the blank behind `,` and `:`, and
// characters that are no ASCII by their number, as Python does. Neither makes a row valid or invalid, nor another one.
// Everything else stays as it is; whoever reads the text finds it.
import type { RawRow } from '../rows-read.ts';

const BLANK = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const SMALL_U = 0x75;

/** Bytes of `\u` and its four digits. */
const NUMBERED_BYTES = 6;
const ASCII_END = 0x80;

/**
 * Writes the text into the target, which has room for as many bytes as the row has.
 * @param marks of the source's bytes
 * @returns its bytes; -1 where the row stands so already, or is broken.
 */
export function compactLine({ source, from, to }: RawRow, marks: Int32Array, target: Buffer): number {
  const text = new CompactText(source, from, target);
  for (let at = from; at < to; at++) {
    const byte = source[at] as number;
    if (byte === QUOTE) {
      at = compactString(text, source, at + 1, to, marks);
      if (at === -1) return -1;
    } else if ((byte === COMMA || byte === COLON) && source[at + 1] === BLANK) {
      text.leaveOut(++at, 1);
    }
  }
  return text.finish(to);
}

/** What was written of a row, and where in its source what is to be written next begins. */
class CompactText {
  readonly #source: Buffer;
  readonly #start: number;
  readonly #target: Buffer;
  #from: number;
  #length = 0;

  constructor(source: Buffer, from: number, target: Buffer) {
    this.#source = source;
    this.#start = from;
    this.#target = target;
    this.#from = from;
  }

  leaveOut(at: number, sizeBytes: number): void {
    this.#copy(at);
    this.#from = at + sizeBytes;
  }

  /** In the place of so many bytes. */
  put(at: number, sizeBytes: number, codePoint: number): void {
    this.leaveOut(at, sizeBytes);
    this.#length += writeUtf8(this.#target, this.#length, codePoint);
  }

  /** @returns bytes of the text, or -1 when nothing was changed. */
  finish(to: number): number {
    if (this.#from === this.#start) return -1;
    this.#copy(to);
    return this.#length;
  }

  #copy(to: number): void {
    const { length } = this.#target;
    if (this.#from < to && this.#length < length)
      this.#length += this.#source.copy(this.#target, this.#length, this.#from, to);
  }
}

/** @returns offset of the closing quote; -1 when there is none, and for a number that stands for no character or for ASCII. */
function compactString(text: CompactText, source: Buffer, from: number, to: number, marks: Int32Array): number {
  let word = from >>> 5;
  let bits = (marks[word] as number) & (-1 << (from & 31));
  for (;;) {
    while (bits === 0) bits = marks[++word] as number;
    const at = (word << 5) + 31 - Math.clz32(bits & -bits);
    bits &= bits - 1;
    if (at >= to) return -1;
    const byte = source[at] as number;
    if (byte === QUOTE) return at;
    if (byte !== BACKSLASH) continue;
    const next = source[at + 1] === SMALL_U ? compactNumbered(text, source, at, to) : at + 2;
    if (next === -1 || next >= to) return -1;
    word = next >>> 5;
    bits = (marks[word] as number) & (-1 << (next & 31));
  }
}

/** @returns what is behind the character, or -1 */
function compactNumbered(text: CompactText, source: Buffer, at: number, to: number): number {
  const unit = unitAt(source, at, to);
  if (unit < ASCII_END) return -1;
  if ((unit & 0xf800) !== 0xd800) {
    text.put(at, NUMBERED_BYTES, unit);
    return at + NUMBERED_BYTES;
  }
  const low = unitAt(source, at + NUMBERED_BYTES, to);
  if ((unit & 0xfc00) !== 0xd800 || (low & 0xfc00) !== 0xdc00) return -1;
  text.put(at, 2 * NUMBERED_BYTES, 0x10000 + ((unit & 0x3ff) << 10) + (low & 0x3ff));
  return at + 2 * NUMBERED_BYTES;
}

/** The code unit whose number stands there; -1 when none does. */
function unitAt(source: Buffer, at: number, to: number): number {
  if (at + NUMBERED_BYTES > to || source[at] !== BACKSLASH || source[at + 1] !== SMALL_U) return -1;
  let unit = 0;
  for (let i = at + 2; i < at + NUMBERED_BYTES; i++) {
    const digit = HEX_DIGITS[source[i] as number] as number;
    if (digit < 0) return -1;
    unit = 16 * unit + digit;
  }
  return unit;
}

/** By byte; -1 = no hexadecimal digit. */
const HEX_DIGITS = new Int8Array(256).fill(-1);
for (let digit = 0; digit < 16; digit++)
  for (const written of [digit.toString(16), digit.toString(16).toUpperCase()])
    HEX_DIGITS[written.charCodeAt(0)] = digit;

/** @param codePoint of a character that is no ASCII @returns its bytes */
function writeUtf8(target: Buffer, at: number, codePoint: number): number {
  const sizeBytes = codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;
  let rest = codePoint;
  for (let i = at + sizeBytes - 1; i > at; i--) {
    target[i] = 0x80 | (rest & 0x3f);
    rest >>>= 6;
  }
  target[at] = ((0xf00 >>> sizeBytes) & 0xff) | rest;
  return sizeBytes;
}
