// A set of keys of fixed length with a byte beside each, without an object a key: 16-byte ids, 8-byte groups.

const WORD_BYTES = 4;
/** Slots are at least this many times the keys. */
const SLACK = 1.5;

export interface KeyTable {
  /** The key's byte, or -1 when it is not in the table. */
  get(bytes: Buffer, at: number): number;
  /** False when the key is there already; its byte stays. */
  add(bytes: Buffer, at: number, value: number): boolean;
  set(bytes: Buffer, at: number, value: number): void;
  readonly size: number;
}

/** @param keyBytes a multiple of 4 @param keysExpected how many it holds before it grows */
export function createKeyTable(keyBytes: number, keysExpected: number): KeyTable {
  const words = keyBytes / WORD_BYTES;
  let slots = slotsFor(keysExpected);
  let table = new Uint32Array(slots * words);
  /** Byte plus one; 0 = free. */
  let values = new Uint16Array(slots);
  let size = 0;

  const find = (bytes: Buffer, at: number): number => {
    // Keys are digests, so that their first bytes are as good as a hash.
    let slot = bytes.readUInt32LE(at) & (slots - 1);
    while (values[slot] !== 0 && !isAt(bytes, at, slot)) slot = (slot + 1) & (slots - 1);
    return slot;
  };
  const isAt = (bytes: Buffer, at: number, slot: number): boolean => {
    for (let word = 0; word < words; word++)
      if (table[slot * words + word] !== bytes.readUInt32LE(at + word * WORD_BYTES)) return false;
    return true;
  };
  const put = (bytes: Buffer, at: number, slot: number, value: number) => {
    for (let word = 0; word < words; word++) table[slot * words + word] = bytes.readUInt32LE(at + word * WORD_BYTES);
    values[slot] = value + 1;
    if (++size * SLACK > slots) grow();
  };
  const grow = () => {
    const [oldTable, oldValues] = [table, values];
    slots *= 2;
    table = new Uint32Array(slots * words);
    values = new Uint16Array(slots);
    size = 0;
    const keys = Buffer.from(oldTable.buffer);
    for (const [slot, value] of oldValues.entries())
      if (value !== 0) put(keys, slot * keyBytes, find(keys, slot * keyBytes), value - 1);
  };
  return {
    get: (bytes, at) => (values[find(bytes, at)] as number) - 1,
    add(bytes, at, value) {
      const slot = find(bytes, at);
      if (values[slot] !== 0) return false;
      put(bytes, at, slot, value);
      return true;
    },
    set(bytes, at, value) {
      const slot = find(bytes, at);
      if (values[slot] === 0) put(bytes, at, slot, value);
      else values[slot] = value + 1;
    },
    get size() {
      return size;
    },
  };
}

function slotsFor(keys: number): number {
  let slots = 16;
  while (slots < keys * SLACK) slots *= 2;
  return slots;
}
