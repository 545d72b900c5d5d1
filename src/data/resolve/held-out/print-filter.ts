// A set of fingerprints that may say yes to one that is not in it, never no to one that is. It is larger than the processor's caches and is
// asked for a whole row's at once, without a branch between them, so that their accesses to memory overlap.
const BITS_A_PRINT = 16;
const WORDS_MIN = 1024;
/** 64 MB. */
const WORDS_MAX = 2 ** 24;

export class PrintFilter {
  readonly #words: Int32Array;

  private constructor(words: number) {
    this.#words = new Int32Array(words);
  }

  static sizedFor(prints: number): PrintFilter {
    const wanted = Math.ceil((prints * BITS_A_PRINT) / 32);
    let words = WORDS_MIN;
    while (words < wanted && words < WORDS_MAX) words *= 2;
    return new PrintFilter(words);
  }

  add(print: number): void {
    const at = print & (this.#words.length - 1);
    this.#words[at] = (this.#words[at] as number) | bitsOf(print);
  }

  /** Writes for each of [from, to) what of it is missing: 0 = it may be in the set. */
  findMissing(prints: Int32Array, from: number, to: number, missing: Int32Array): void {
    const words = this.#words;
    const last = words.length - 1;
    for (let i = from; i < to; i++) {
      const print = prints[i] as number;
      const bits = bitsOf(print);
      missing[i - from] = ((words[print & last] as number) & bits) ^ bits;
    }
  }
}

/** Three of a word's bits, by a second hash. */
function bitsOf(print: number): number {
  const hash = Math.imul(print, 0x9e3779b1) >>> 9;
  return (1 << (hash & 31)) | (1 << ((hash >>> 5) & 31)) | (1 << ((hash >>> 10) & 31));
}
