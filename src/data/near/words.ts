// Cuts a text into words and hashes them: runs of letters and digits without case; in scripts without spaces each character.
// Punctuation, white space and markup make no difference.

export const ALONE = 2;
export const IN_WORD = 1;

/** What a UTF-16 code unit is; made when first needed. */
let kinds: Uint8Array | null = null;

/** `IN_WORD`, `ALONE`, or 0 for what stands between words. */
export function unitKinds(): Uint8Array {
  kinds ??= classifyUnits();
  return kinds;
}

export const FNV_OFFSET = 0x811c9dc5 | 0;
export const FNV_PRIME = 0x01000193;

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
  let hash = FNV_OFFSET;
  let isInWord = false;
  for (let i = 0; i < units.length; i++) {
    const unit = units[i] as number;
    const kind = kindOf[unit] as number;
    if (kind === IN_WORD) {
      hash = Math.imul(hash ^ unit, FNV_PRIME);
      isInWord = true;
      continue;
    }
    if (isInWord) hashes[count++] = hash;
    if (kind === ALONE) hashes[count++] = Math.imul(FNV_OFFSET ^ unit, FNV_PRIME);
    hash = FNV_OFFSET;
    isInWord = false;
  }
  if (isInWord) hashes[count++] = hash;
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
