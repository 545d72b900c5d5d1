// Cuts a text into words and hashes them: runs of letters and digits without case; in scripts without spaces each character.
// Punctuation, white space and markup make no difference.

import { BYTES_AT_ONCE, stir, WORD_SEED } from '../kernels/word-line.ts';

export const ALONE = 2;
export const IN_WORD = 1;

/** What a UTF-16 code unit is; made when first needed. */
let kinds: Uint8Array | null = null;

/** `IN_WORD`, `ALONE`, or 0 for what stands between words. */
export function unitKinds(): Uint8Array {
  kinds ??= classifyUnits();
  return kinds;
}

/** Hash of the word [from, to) of code units in lower case: of their low bytes, and of their high ones where there are any. */
export function hashUnits(units: Uint16Array, from: number, to: number): number {
  let hash = WORD_SEED;
  for (let at = from; at < to; at += BYTES_AT_ONCE) {
    hash = stir(hash, fourBytes(units, at, to, 0), fourBytes(units, at + 4, to, 0));
    const high = fourBytes(units, at, to, 8);
    const higher = fourBytes(units, at + 4, to, 8);
    if ((high | higher) !== 0) hash = stir(hash, high, higher);
  }
  return hash;
}

/** Of four units from there on the low bytes or the high ones. */
function fourBytes(units: Uint16Array, from: number, to: number, shift: number): number {
  let bytes = 0;
  for (let i = Math.min(to, from + 4) - 1; i >= from; i--)
    bytes = (bytes << 8) | (((units[i] as number) >>> shift) & 0xff);
  return bytes;
}

const oneUnit = new Uint16Array(1);

/** Hash of a word of one code unit. */
export function hashUnit(unit: number): number {
  oneUnit[0] = unit;
  return hashUnits(oneUnit, 0, 1);
}

/** 32 bits a word, signed, because V8 counts in those. Valid until the next call. */
export type WordHasher = (text: string) => Int32Array;

export function createWordHasher(): WordHasher {
  const kindOf = unitKinds();
  let units = new Uint16Array(1024);
  let hashes = new Int32Array(1024);
  return (text) => {
    const lower = text.toLowerCase();
    // There are no more words than characters.
    if (hashes.length < lower.length) {
      units = new Uint16Array(2 * lower.length);
      hashes = new Int32Array(2 * lower.length);
    }
    // Reading an array is faster than reading a string.
    Buffer.from(units.buffer).write(lower, 'utf16le');
    return hashes.subarray(0, hashWords(units.subarray(0, lower.length), kindOf, hashes));
  };
}

function hashWords(units: Uint16Array, kindOf: Uint8Array, hashes: Int32Array): number {
  let count = 0;
  let start = 0;
  for (let i = 0; i < units.length; i++) {
    const unit = units[i] as number;
    const kind = kindOf[unit] as number;
    if (kind === IN_WORD) continue;
    if (start < i) hashes[count++] = hashUnits(units, start, i);
    if (kind === ALONE) hashes[count++] = hashUnit(unit);
    start = i + 1;
  }
  if (start < units.length) hashes[count++] = hashUnits(units, start, units.length);
  return count;
}

const WORD_UNIT = /[\p{L}\p{N}\p{M}]/u;
const SPACELESS =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\p{Cs}]/u;

function classifyUnits(): Uint8Array {
  const made = new Uint8Array(0x10000);
  for (let unit = 0; unit < made.length; unit++) {
    const character = String.fromCharCode(unit);
    made[unit] = SPACELESS.test(character) ? ALONE : WORD_UNIT.test(character) ? IN_WORD : 0;
  }
  return made;
}

/** Spreads a hash over all 32 bits (MurmurHash3's finaliser); signed. */
export function mix(hash: number): number {
  let mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
