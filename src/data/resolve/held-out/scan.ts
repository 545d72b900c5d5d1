// Looks at the rows of one piece: gives the words of the held-out ones, or those grams of the training rows that held-out ones may have.
// A pure function of the piece's bytes, its fates and the filters, so that pieces are looked at in any order and thread.
import { createLineCutter } from '../../lines.ts';
import { Grams } from '../../near/grams.ts';
import { RowWords } from '../../near/row-words.ts';
import type { RawRow } from '../../rows-read.ts';
import { FATE, isHeldOut } from '../fates.ts';
import { GramFilter } from './gram-filter.ts';
import { createHotGrams } from './hot-grams.ts';

/** Training rows that may share a gram before it is their template. */
export const TEMPLATE_ROWS = 10;

/** What was found is given in batches of at least so many numbers, 256 KB, and all of a row in one. */
const BATCH_NUMBERS = 65_536;

/** Plain values: they go to a thread as they are. */
export interface ScanOptions {
  /** Words in a row that both have. */
  words: number;
  known: SharedArrayBuffer;
  knownBlocks: SharedArrayBuffer;
}

/** So many words that n words in a row hold a whole block of them wherever the blocks begin. */
export function blockWords(n: number): number {
  return (n + 1) >> 1;
}

/** Of the held-out rows first, of the training rows when all of those are in the filters. */
export type Side = 'held-out' | 'trained';

export interface PieceRows {
  side: Side;
  /** Number of its first row among those of all pieces. */
  first: number;
  fates: Uint8Array;
}

/**
 * Takes what was found, which is its own then. Of held-out rows their texts: row, words, and the hash of each word. Of training rows
 * the grams that held-out ones may have, too: 64 bits of hash, and the row.
 */
export type TakeFound = (found: Int32Array) => void;

/** One piece after the other. */
export class PieceScan {
  readonly #grams: Grams;
  readonly #blocks: Grams;
  readonly #known: GramFilter;
  readonly #knownBlocks: GramFilter;
  readonly #isHot = createHotGrams(TEMPLATE_ROWS + 1);
  readonly #rowWords = new RowWords();
  readonly #give: TakeFound;
  #batch = new Int32Array(2 * BATCH_NUMBERS);
  #used = 0;

  constructor({ words, known, knownBlocks }: ScanOptions, give: TakeFound) {
    this.#grams = new Grams(words);
    this.#blocks = new Grams(blockWords(words));
    this.#known = new GramFilter(known);
    this.#knownBlocks = new GramFilter(knownBlocks);
    this.#give = give;
  }

  /** Looks at slices of the piece's rows, until it is told the end. */
  open({ side, first, fates }: PieceRows): { push(slice: Buffer): void; end(): void } {
    const isWanted = side === 'held-out' ? isHeldOut : (fate: number) => fate === FATE.train;
    const take = side === 'held-out' ? this.#takeHeldOut : this.#takeTrained;
    const lines = createLineCutter(Number.POSITIVE_INFINITY);
    let row = 0;
    const takeLine = ({ source, from, to }: RawRow) => {
      const own = row++;
      if (!isWanted(fates[own] as number)) return;
      this.#rowWords.eachText(source, from, to, (words) => take(words, first + own));
      if (this.#used >= BATCH_NUMBERS) this.#flush();
    };
    return {
      push: (slice) => lines.push(slice, takeLine),
      end: () => {
        lines.end(takeLine);
        this.#flush();
      },
    };
  }

  readonly #takeHeldOut = (words: Int32Array, row: number): void => {
    if (words.length < this.#grams.n) return;
    this.#makeRoom(words.length + 2);
    this.#batch[this.#used++] = row;
    this.#batch[this.#used++] = words.length;
    this.#batch.set(words, this.#used);
    this.#used += words.length;
  };

  readonly #takeTrained = (words: Int32Array, row: number): void => {
    const blocks = this.#blocks;
    const { n } = this.#grams;
    blocks.readApart(words);
    // Words whose grams may be shared: those around a block that is known.
    let [from, to] = [0, 0];
    for (let block = 0; block < blocks.count; block++) {
      if (!this.#knownBlocks.has(blocks.highs[block] as number, blocks.lows[block] as number)) continue;
      const at = block * blocks.n;
      const start = Math.max(0, at - (n - blocks.n));
      if (start > to - (n - 1)) {
        this.#takeGrams(words, from, to, row);
        from = start;
      }
      to = Math.min(words.length, at + n);
    }
    this.#takeGrams(words, from, to, row);
  };

  #takeGrams(words: Int32Array, from: number, to: number, row: number): void {
    const grams = this.#grams;
    grams.read(words, from, to);
    for (let i = 0; i < grams.count; i++) {
      const [high, low] = [grams.highs[i] as number, grams.lows[i] as number];
      if (!this.#known.has(high, low) || this.#isHot(high, low, row)) continue;
      this.#makeRoom(3);
      this.#batch[this.#used++] = high;
      this.#batch[this.#used++] = low;
      this.#batch[this.#used++] = row;
    }
  }

  #makeRoom(numbers: number): void {
    if (this.#used + numbers <= this.#batch.length) return;
    const larger = new Int32Array(2 * (this.#used + numbers));
    larger.set(this.#batch.subarray(0, this.#used));
    this.#batch = larger;
  }

  #flush(): void {
    if (this.#used === 0) return;
    this.#give(this.#batch.subarray(0, this.#used));
    this.#batch = new Int32Array(2 * BATCH_NUMBERS);
    this.#used = 0;
  }
}
