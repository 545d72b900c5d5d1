// A set of fingerprints, each of which can be marked. 5 bytes a place, and more than half of the places are in use at most.

/** No fingerprint is 0. */
const FREE = 0;
const SLOTS_MIN = 1024;

export interface PrintTable {
  add(print: number): void;
  /** Marks it, and tells whether it is in the set. */
  mark(print: number): boolean;
  isMarked(print: number): boolean;
}

/** @param prints how many there will be, more or less */
export function createPrintTable(prints: number): PrintTable {
  let slots = new Int32Array(SLOTS_MIN);
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
    for (const print of old) if (print !== FREE) slots[find(print)] = print;
  };
  let places = SLOTS_MIN;
  while (places < 2 * prints) places *= 2;
  resize(places);
  let marks: Uint8Array | null = null;
  return {
    add(print) {
      const slot = find(print);
      if (slots[slot] === print) return;
      slots[slot] = print;
      if (2 * ++used > slots.length) resize(2 * slots.length);
    },
    mark(print) {
      marks ??= new Uint8Array(slots.length);
      const slot = find(print);
      if (slots[slot] === FREE) return false;
      marks[slot] = 1;
      return true;
    },
    isMarked: (print) => marks?.[find(print)] === 1,
  };
}
