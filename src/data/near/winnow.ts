// Chooses fingerprints of a text, so that two texts with n words in a row in common have one in common, wherever those words stand
// (winnowing: Schleimer, Wilkerson and Aiken 2003). About every fourth word has one. A fingerprint in common proves nothing.
import { mix } from './words.ts';

const PRINT_FACTOR = 0x85ebca6b | 0;

export class Winnow {
  /** Of the texts that were read since the last `clear`, 32 bits each; none is 0. */
  prints = new Int32Array(1024);
  /** With which word of its text the run of each begins. */
  starts = new Int32Array(1024);
  count = 0;
  /** Words that make a fingerprint. */
  readonly runWords: number;
  /** How many runs of so many words n words in a row have. */
  readonly #runs: number;

  constructor(n: number) {
    this.runWords = (n + 1) >> 1;
    this.#runs = n - this.runWords + 1;
  }

  clear(): void {
    this.count = 0;
  }

  /**
   * Of any so many runs one behind the other the one is chosen whose first word has the least hash, and of several such the last: n words
   * decide by themselves.
   */
  read(words: Int32Array): void {
    const runs = words.length - this.runWords + 1;
    const last = this.#runs - 1;
    if (runs <= last) return;
    let least = 0;
    for (let run = 1; run < runs; run++) {
      if ((words[run] as number) <= (words[least] as number)) least = run;
      else if (least < run - last) {
        least++;
        for (let next = least + 1; next <= run; next++)
          if ((words[next] as number) <= (words[least] as number)) least = next;
      } else if (run !== last) continue;
      if (run >= last) this.#choose(words, least);
    }
  }

  #choose(words: Int32Array, run: number): void {
    let print = 0;
    for (let i = run; i < run + this.runWords; i++) print = (Math.imul(print, PRINT_FACTOR) + (words[i] as number)) | 0;
    if (this.count === this.prints.length) {
      this.prints = twice(this.prints);
      this.starts = twice(this.starts);
    }
    this.starts[this.count] = run;
    this.prints[this.count++] = mix(print) || 1;
  }
}

function twice(numbers: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * numbers.length);
  larger.set(numbers);
  return larger;
}
