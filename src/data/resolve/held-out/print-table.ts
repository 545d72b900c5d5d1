// A set of fingerprints, each of which can be marked. 5½ bytes a place, and half of the places are in use at most. Most fingerprints that
// it is asked for are not in it: a bit map, which fits into the processor's cache, says so of seven in eight of them.

/** No fingerprint is 0. */
const FREE = 0;
const SLOTS_MIN = 1024;
const BITS_A_SLOT = 4;

export interface PrintTable {
  add(print: number): void;
  has(print: number): boolean;
  /** Marks it, and tells whether it is in the set. */
  mark(print: number): boolean;
  isMarked(print: number): boolean;
  eachMarked(take: (print: number) => void): void;
  /** Takes everything out; the memory stays. */
  clear(): void;
}

/** @param prints how many there will be, more or less */
export function createPrintTable(prints: number): PrintTable {
  let slots = new Int32Array(0);
  let bits = new Uint32Array(0);
  let used = 0;
  const find = (print: number): number => {
    const last = slots.length - 1;
    let slot = print & last;
    while (slots[slot] !== print && slots[slot] !== FREE) slot = (slot + 1) & last;
    return slot;
  };
  const resize = (places: number): void => {
    const old = slots;
    slots = new Int32Array(places);
    bits = new Uint32Array((places * BITS_A_SLOT) / 32);
    for (const print of old) if (print !== FREE) put(find(print), print);
  };
  const put = (slot: number, print: number): void => {
    slots[slot] = print;
    const word = (print >>> 5) & (bits.length - 1);
    bits[word] = (bits[word] as number) | (1 << (print & 31));
  };
  const isAbsent = (print: number) =>
    (((bits[(print >>> 5) & (bits.length - 1)] as number) >>> (print & 31)) & 1) === 0;
  let places = SLOTS_MIN;
  while (places < 2 * prints) places *= 2;
  resize(places);
  let marks: Uint8Array | null = null;
  return {
    add(print) {
      const slot = find(print);
      if (slots[slot] === print) return;
      put(slot, print);
      if (2 * ++used > slots.length) resize(2 * slots.length);
    },
    mark(print) {
      if (isAbsent(print)) return false;
      if (marks?.length !== slots.length) marks = new Uint8Array(slots.length);
      const slot = find(print);
      if (slots[slot] === FREE) return false;
      marks[slot] = 1;
      return true;
    },
    has: (print) => !isAbsent(print) && slots[find(print)] === print,
    isMarked: (print) => marks?.[find(print)] === 1,
    clear() {
      slots.fill(FREE);
      bits.fill(0);
      marks?.fill(0);
      used = 0;
    },
    eachMarked(take) {
      marks?.forEach((isMarked, slot) => {
        if (isMarked === 1) take(slots[slot] as number);
      });
    },
  };
}
