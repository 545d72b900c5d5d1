// Sketches a row by one-permutation MinHash: 128 bins over its word 5-grams, 8 bits of each bin kept.
// Eight bins are a word of 64 bits, so that the 16 words are both the bands, by which similar rows find each other, and the
// signature, from which their similarity is estimated (Li and Owen 2012; b-bit: Li and König 2010; bins that stay empty borrow
// from others: Shrivastava 2017).
import type { Content } from '../mapping.ts';
import { ownTexts } from '../row-texts.ts';
import { createWordHasher, mix } from './words.ts';

export const BINS = 128;
export const BANDS = 16;
const SHINGLE_WORDS = 5;

/** Odd constants that keep places and words apart. */
const WORD_FACTOR = 0x9e3779b1 | 0;
const BIN_FACTOR = 0x85ebca77 | 0;
const PROBE_FACTOR = 0xc2b2ae3d | 0;

/** The top seven bits of a hash are its bin. */
const BIN_SHIFT = 25;
/** 16 words, valid until the next call. */
export type Sketcher = (content: Content) => BigUint64Array;

export function createSketcher(): Sketcher {
  const hashWords = createWordHasher();
  const least = new Int32Array(BINS);
  const isFilled = new Uint8Array(BINS);
  const signature = new Uint8Array(BINS);
  const bands = new BigUint64Array(signature.buffer);
  return (content) => {
    const text = ownTexts(content)
      .map((own) => own.text)
      .join('\n');
    const words = hashWords(text);
    isFilled.fill(0);
    fillBins(words.length === 0 ? unitsOf(text) : words, seedOf(content), least, isFilled);
    for (let bin = 0; bin < BINS; bin++) {
      const donated = least[donorOf(bin, isFilled)] as number;
      signature[bin] = mix(donated ^ Math.imul(bin + 1, BIN_FACTOR)) >>> 24;
    }
    return bands;
  };
}

/** An answer that is wanted and one that is not are never the same, however alike. */
function seedOf(content: Content): number {
  return 'label' in content && !content.label ? 1 : 0;
}

/** Of a text without words its characters count. */
function unitsOf(text: string): Int32Array {
  return Int32Array.from({ length: Math.max(1, text.length) }, (_, i) => text.charCodeAt(i) + 1);
}

/** The least hash of each bin; a text of fewer words is one shingle. */
function fillBins(words: Int32Array, seed: number, least: Int32Array, isFilled: Uint8Array): void {
  const size = Math.min(SHINGLE_WORDS, words.length);
  for (let from = 0; from <= words.length - size; from++) {
    let shingle = seed;
    for (let i = from; i < from + size; i++) shingle = (Math.imul(shingle, WORD_FACTOR) + (words[i] as number)) | 0;
    const hash = mix(shingle);
    const bin = hash >>> BIN_SHIFT;
    if (isFilled[bin] === 1 && (least[bin] as number) <= hash) continue;
    least[bin] = hash;
    isFilled[bin] = 1;
  }
}

/** The bin itself, or the first filled one of a fixed sequence. */
function donorOf(bin: number, isFilled: Uint8Array): number {
  let donor = bin;
  for (let tries = 1; isFilled[donor] === 0; tries++)
    donor = mix((Math.imul(bin + 1, PROBE_FACTOR) + tries) | 0) >>> BIN_SHIFT;
  return donor;
}

/** Estimated share of common shingles (Jaccard) of two signatures; bins of 8 bits agree by chance once in 256. */
export function similarity(a: Uint8Array, b: Uint8Array): number {
  let same = 0;
  for (let bin = 0; bin < BINS; bin++) if (a[bin] === b[bin]) same++;
  return Math.max(0, (same / BINS - 1 / 256) / (1 - 1 / 256));
}
