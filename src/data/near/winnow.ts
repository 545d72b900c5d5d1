// Chooses fingerprints of a text, so that two texts with n words in a row in common have one in common, wherever those words stand
// (winnowing: Schleimer, Wilkerson and Aiken 2003). About every fourth word has one. A fingerprint in common proves nothing.
import { mix } from './words.ts';

/** Odd constants: of the order in which fingerprints are chosen, and of the fingerprints themselves. */
const ORDER_FACTOR = 0x9e3779b1 | 0;
const PRINT_FACTOR = 0x85ebca6b | 0;

/** Words that are looked at together: longer texts are cut into stretches, each n - 1 words into the next. */
const STRETCH_WORDS = 4096;

export class Winnow {
  /** Of the texts that were read since the last `clear`, 32 bits each; none is 0. */
  prints = new Int32Array(1024);
  /** With which word of its text the run of each begins. */
  starts = new Int32Array(1024);
  count = 0;
  readonly #n: number;
  /** Words that make a fingerprint. */
  readonly runWords: number;
  /** How many runs of so many words n words in a row have. */
  readonly #runs: number;
  /** What a word weighs in the order when it leaves a run. */
  readonly #out: number;
  /** Of each run of the text, what it is chosen by. */
  readonly #order: Int32Array;

  constructor(n: number) {
    this.#n = n;
    this.runWords = (n + 1) >> 1;
    this.#runs = n - this.runWords + 1;
    let out = 1;
    for (let i = 0; i < this.runWords; i++) out = Math.imul(out, ORDER_FACTOR);
    this.#out = out;
    this.#order = new Int32Array(STRETCH_WORDS + n);
  }

  clear(): void {
    this.count = 0;
  }

  read(words: Int32Array): void {
    const overlap = this.#n - 1;
    for (let from = 0; from + overlap < words.length; from += STRETCH_WORDS)
      this.#readStretch(words.subarray(from, from + STRETCH_WORDS + overlap), from);
  }

  /** Of any so many runs one behind the other the least is chosen. */
  #readStretch(words: Int32Array, first: number): void {
    const order = this.#orderRuns(words);
    const runs = words.length - this.runWords + 1;
    const window = this.#runs;
    let least = 0;
    let leastOrder = order[0] as number;
    for (let run = 1; run < runs; run++) {
      const own = order[run] as number;
      if (own <= leastOrder) {
        least = run;
        leastOrder = own;
      } else if (least === run - window) {
        leastOrder = order[++least] as number;
        for (let next = least + 1; next <= run; next++) {
          if ((order[next] as number) > leastOrder) continue;
          least = next;
          leastOrder = order[next] as number;
        }
      } else if (run !== window - 1) continue;
      if (run >= window - 1) this.#choose(words, least, first);
    }
  }

  #orderRuns(words: Int32Array): Int32Array {
    const order = this.#order;
    const out = this.#out;
    const length = this.runWords;
    let sum = 0;
    for (let i = 0; i < length; i++) sum = (Math.imul(sum, ORDER_FACTOR) + (words[i] as number)) | 0;
    order[0] = sum;
    for (let i = length; i < words.length; i++) {
      sum = (Math.imul(sum, ORDER_FACTOR) + (words[i] as number) - Math.imul(words[i - length] as number, out)) | 0;
      order[i - length + 1] = sum;
    }
    return order;
  }

  /** Its fingerprint is another hash: the least ones are closer together than chance would have it. */
  #choose(words: Int32Array, run: number, first: number): void {
    let print = 0;
    for (let i = run; i < run + this.runWords; i++) print = (Math.imul(print, PRINT_FACTOR) + (words[i] as number)) | 0;
    if (this.count === this.prints.length) {
      this.prints = twice(this.prints);
      this.starts = twice(this.starts);
    }
    this.starts[this.count] = first + run;
    this.prints[this.count++] = mix(print) || 1;
  }
}

function twice(numbers: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * numbers.length);
  larger.set(numbers);
  return larger;
}
