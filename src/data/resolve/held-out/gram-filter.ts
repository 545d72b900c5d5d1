// A set of grams that may say yes to one that is not in it, never no to one that is: a Bloom filter that asks memory once a gram, because
// all bits of a gram are in one word of it (Putze, Sanders and Singler 2007). Sized for 16 bits a gram: it errs
// once in thirty at most, and more often where that is too much memory.

const BITS_A_GRAM = 16;
const WORDS_MIN = 1024;
/** 64 MB. */
const WORDS_MAX = 2 ** 24;

export class GramFilter {
  readonly #words: Int32Array;
  readonly #last: number;

  private constructor(words: number) {
    this.#words = new Int32Array(words);
    this.#last = words - 1;
  }

  static sizedFor(grams: number): GramFilter {
    const wanted = Math.ceil((grams * BITS_A_GRAM) / 32);
    let words = WORDS_MIN;
    while (words < wanted && words < WORDS_MAX) words *= 2;
    return new GramFilter(words);
  }

  add(high: number, low: number): void {
    const at = high & this.#last;
    this.#words[at] = (this.#words[at] as number) | bitsOf(low);
  }

  has(high: number, low: number): boolean {
    const bits = bitsOf(low);
    return ((this.#words[high & this.#last] as number) & bits) === bits;
  }
}

/** Three of a word's bits, each by five bits of the hash. */
function bitsOf(low: number): number {
  return (1 << (low & 31)) | (1 << ((low >>> 5) & 31)) | (1 << ((low >>> 10) & 31));
}
