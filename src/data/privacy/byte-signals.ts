// Tells of UTF-8 text, one byte after the other, whether it may hold personal data: whenever `signals` says so of the text, this does,
// too. It may say so of more, which costs a look at the text.
import { CLASSES, DIGIT, HEX, SEPARATOR, TOKEN } from './characters.ts';
import { NINO_DIGITS, NUMBER_DIGITS_MIN, TOKEN_CHARS_MIN } from './signals.ts';

const DOT = 0x2e;
const COLON = 0x3a;
const WIDE_AT_SIGN = 0xff20;
const CAPITAL_A = 0x41;
const CAPITAL_D = 0x44;
const CAPITAL_Z = 0x5a;
const NUMBER_CLASSES = DIGIT | SEPARATOR;

/** Digits and dots of the shortest IPv4 address. */
const OCTETS = 4;

/** Starts of keys of AWS, which may do without digits. */
const KEY_STARTS = ['AKIA', 'ASIA'].map((start) => Buffer.from(start));
const SMALL_H = 0x68;
const SMALL_F = 0x66;

export class ByteSignals {
  /** False = there is certainly nothing in the bytes that were looked at since the last `reset`. */
  get mayHold(): boolean {
    return this.#isTold || (this.#hasVariant && this.#hasDigit);
  }

  #isTold = false;
  #hasDigit = false;
  /** A wide or foreign separator: it may hold digits together that look apart. */
  #hasVariant = false;
  /** Where the runs end that were looked at. */
  #numberEnd = 0;
  #tokenEnd = 0;

  reset(): void {
    this.#isTold = false;
    this.#hasDigit = false;
    this.#hasVariant = false;
    this.#numberEnd = 0;
    this.#tokenEnd = 0;
  }

  noteAtSign(): void {
    this.#isTold = true;
  }

  /** Digits come in the order of the text, which starts at `from` and ends before `to`. */
  noteDigit(bytes: Uint8Array, at: number, from: number, to: number): void {
    this.#hasDigit = true;
    if (at >= this.#numberEnd) {
      this.#numberEnd = endOfRun(bytes, at, to, NUMBER_CLASSES);
      if (mayBeNumber(bytes, startOfRun(bytes, at, from, NUMBER_CLASSES), this.#numberEnd)) this.#isTold = true;
    }
    if (at >= this.#tokenEnd) {
      this.#tokenEnd = endOfRun(bytes, at, to, TOKEN);
      if (this.#tokenEnd - startOfRun(bytes, at, from, TOKEN) >= TOKEN_CHARS_MIN) this.#isTold = true;
    }
  }

  /** Of an IPv6 address, behind its first group. */
  noteColon(bytes: Uint8Array, at: number): void {
    const before = bytes[at + 1] as number;
    for (let i = at - 4; i < at; i++) if (((CLASSES[bytes[i] as number] as number) & HEX) === 0) return;
    if (before === COLON || ((CLASSES[before] as number) & HEX) !== 0) this.#isTold = true;
  }

  noteCapitalA(bytes: Uint8Array, at: number): void {
    if (KEY_STARTS.some((start) => start.every((byte, i) => bytes[at + i] === byte))) this.#isTold = true;
  }

  /** Of a key of Hugging Face. */
  noteUnderscore(bytes: Uint8Array, at: number): void {
    if (bytes[at - 1] === SMALL_F && bytes[at - 2] === SMALL_H) this.#isTold = true;
  }

  /** The first byte of a character of two or three bytes. */
  noteWide(bytes: Uint8Array, at: number): void {
    const unit = unitAt(bytes, at);
    const classes = CLASSES[unit] as number;
    if ((classes & DIGIT) !== 0 || unit === WIDE_AT_SIGN) this.#isTold = true;
    else if (classes !== 0) this.#hasVariant = true;
  }
}

/** The code unit of a character of two or three bytes. */
function unitAt(bytes: Uint8Array, at: number): number {
  const lead = bytes[at] as number;
  const second = (bytes[at + 1] as number) & 0x3f;
  if (lead < 0xe0) return ((lead & 0x1f) << 6) | second;
  return ((lead & 0x0f) << 12) | (second << 6) | ((bytes[at + 2] as number) & 0x3f);
}

function startOfRun(bytes: Uint8Array, at: number, from: number, classes: number): number {
  let start = at;
  while (start > from && ((CLASSES[bytes[start - 1] as number] as number) & classes) !== 0) start--;
  return start;
}

function endOfRun(bytes: Uint8Array, at: number, to: number, classes: number): number {
  let end = at + 1;
  while (end < to && ((CLASSES[bytes[end] as number] as number) & classes) !== 0) end++;
  return end;
}

function mayBeNumber(bytes: Uint8Array, start: number, end: number): boolean {
  let digits = 0;
  let dots = 0;
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number;
    digits += (CLASSES[byte] as number) & DIGIT;
    if (byte === DOT) dots++;
  }
  if (digits >= NUMBER_DIGITS_MIN || (digits >= OCTETS && dots >= OCTETS - 1)) return true;
  return digits === NINO_DIGITS && isCapital(bytes[start - 1]) && isCapital(bytes[end], CAPITAL_D);
}

function isCapital(byte: number | undefined, last = CAPITAL_Z): boolean {
  return byte !== undefined && byte >= CAPITAL_A && byte <= last;
}
