// A set of grams that may say yes to one that is not in it, never no to one that is: a blocked Bloom filter, one look at memory a gram
// (Putze, Sanders and Singler 2007). Sized for 16 bits a gram: it errs once in two hundred, and more often where that is too much memory.

const BITS_A_GRAM = 16;
/** Of a block: a line of the processor's cache. */
const BLOCK_BITS = 512;
const BLOCK_WORDS = BLOCK_BITS / 32;
const BLOCKS_MIN = 64;
/** 64 MB. */
const BLOCKS_MAX = 2 ** 20;

export interface GramFilter {
  add(high: number, low: number): void;
  has(high: number, low: number): boolean;
}

export function createGramFilter(grams: number): GramFilter {
  const wanted = Math.ceil((grams * BITS_A_GRAM) / BLOCK_BITS);
  let blocks = BLOCKS_MIN;
  while (blocks < wanted && blocks < BLOCKS_MAX) blocks *= 2;
  const words = new Int32Array(blocks * BLOCK_WORDS);
  const blockOf = (high: number) => (high & (blocks - 1)) * BLOCK_WORDS;
  return {
    // Three bits of the block, each by nine bits of the other hash.
    add(high, low) {
      const at = blockOf(high);
      for (let shift = 0; shift < 27; shift += 9) {
        const bit = (low >>> shift) & 511;
        words[at + (bit >>> 5)] = (words[at + (bit >>> 5)] as number) | (1 << (bit & 31));
      }
    },
    has(high, low) {
      const at = blockOf(high);
      for (let shift = 0; shift < 27; shift += 9) {
        const bit = (low >>> shift) & 511;
        if (((words[at + (bit >>> 5)] as number) & (1 << (bit & 31))) === 0) return false;
      }
      return true;
    },
  };
}
