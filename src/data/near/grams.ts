// Hashes of n words in a row, 64 bits in two halves, by a rolling hash over the words' own.
import { mix } from './words.ts';

const FACTOR = 0x9e3779b1 | 0;
const FACTOR_2 = 0x85ebca6b | 0;

export class Grams {
  /** Of the text that was read last, one entry a gram. */
  highs = new Int32Array(1024);
  lows = new Int32Array(1024);
  count = 0;
  readonly n: number;
  /** What a word weighs when it leaves. */
  readonly #out: number;
  readonly #out2: number;

  constructor(n: number) {
    this.n = n;
    this.#out = power(FACTOR, n);
    this.#out2 = power(FACTOR_2, n);
  }

  /** Every n words in a row of [from, to). */
  read(words: Int32Array, from = 0, to = words.length): void {
    this.#makeRoom(to - from);
    const { n, highs, lows } = this;
    let [high, low, count] = [0, 0, 0];
    for (let i = from; i < to; i++) {
      const word = words[i] as number;
      high = (Math.imul(high, FACTOR) + word) | 0;
      low = (Math.imul(low, FACTOR_2) + mix(word)) | 0;
      if (i - from >= n) {
        const left = words[i - n] as number;
        high = (high - Math.imul(left, this.#out)) | 0;
        low = (low - Math.imul(mix(left), this.#out2)) | 0;
      }
      if (i - from < n - 1) continue;
      highs[count] = mix(high);
      lows[count++] = mix(low);
    }
    this.count = count;
  }

  #makeRoom(grams: number): void {
    if (this.highs.length >= grams) return;
    this.highs = new Int32Array(2 * grams);
    this.lows = new Int32Array(2 * grams);
  }
}

function power(factor: number, n: number): number {
  let product = 1;
  for (let i = 0; i < n; i++) product = Math.imul(product, factor);
  return product;
}
