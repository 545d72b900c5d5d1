// A table of the n-grams of many texts, in bounded memory: when it is full, every second gram by its hash is given up, so that
// of a passage that two texts share some grams are still found.
import { Grams } from './grams.ts';

/** Grams that are held, 30 bytes each: 126 MB. */
const GRAMS_MAX = 4_194_304;
/** Grams that more texts than this share are their template (lm-evaluation-harness: 10). */
const SHARED_TEXTS_MAX = 10;

/** Marks a free place; no number of an evaluation is as high. */
const FREE = 0xffff;

export interface GramTable {
  /** The words of one text, as hashes. */
  add(words: Int32Array, owner: number): void;
  /** Who owns the first gram that is also there and no template. */
  find(words: Int32Array): number | null;
}

interface Slots {
  high: Int32Array;
  low: Int32Array;
  owner: Uint16Array;
  /** Texts that have the gram, and the last of them. */
  texts: Uint8Array;
  lastText: Uint32Array;
}

export function createGramTable(n: number, gramsMax = GRAMS_MAX): GramTable {
  const grams = new Grams(n);
  let slots = createSlots(1024);
  let used = 0;
  let text = 0;
  /** A gram is held when these bits of its hash are 0. */
  let sampled = 0;
  const insert = (high: number, low: number, owner: number, texts: number, lastText: number): void => {
    const at = placeOf(slots, high, low);
    if (slots.owner[at] !== FREE) {
      if (slots.lastText[at] !== lastText) slots.texts[at] = Math.min(255, (slots.texts[at] as number) + 1);
      slots.lastText[at] = lastText;
      return;
    }
    slots.high[at] = high;
    slots.low[at] = low;
    slots.owner[at] = owner;
    slots.texts[at] = texts;
    slots.lastText[at] = lastText;
    used++;
  };
  const rebuild = (size: number): void => {
    const old = slots;
    slots = createSlots(size);
    used = 0;
    for (let i = 0; i < old.owner.length; i++)
      if (old.owner[i] !== FREE && ((old.low[i] as number) & sampled) === 0)
        insert(
          old.high[i] as number,
          old.low[i] as number,
          old.owner[i] as number,
          old.texts[i] as number,
          old.lastText[i] as number,
        );
  };
  const makeRoom = (): void => {
    const isFull = used >= gramsMax;
    if (isFull) sampled = 2 * sampled + 1;
    rebuild(isFull ? slots.owner.length : 2 * slots.owner.length);
  };
  return {
    add(words, owner) {
      text++;
      grams.read(words);
      for (let i = 0; i < grams.count; i++) {
        const [high, low] = [grams.highs[i] as number, grams.lows[i] as number];
        if ((low & sampled) !== 0) continue;
        if (2 * used >= slots.owner.length || used >= gramsMax) makeRoom();
        insert(high, low, owner, 1, text);
      }
    },
    find(words) {
      grams.read(words);
      for (let i = 0; i < grams.count; i++) {
        const [high, low] = [grams.highs[i] as number, grams.lows[i] as number];
        if ((low & sampled) !== 0) continue;
        const at = placeOf(slots, high, low);
        if (slots.owner[at] === FREE || (slots.texts[at] as number) > SHARED_TEXTS_MAX) continue;
        return slots.owner[at] as number;
      }
      return null;
    },
  };
}

/** A power of two. */
function createSlots(size: number): Slots {
  return {
    high: new Int32Array(size),
    low: new Int32Array(size),
    owner: new Uint16Array(size).fill(FREE),
    texts: new Uint8Array(size),
    lastText: new Uint32Array(size),
  };
}

/** Of the gram, or the free place where it belongs. The low hash's own bits choose the sample, so the high one places. */
function placeOf({ high: highs, low: lows, owner }: Slots, high: number, low: number): number {
  const last = owner.length - 1;
  let at = high & last;
  while (owner[at] !== FREE && (highs[at] !== high || lows[at] !== low)) at = (at + 1) & last;
  return at;
}
