// Compares the grams of training rows with those of held-out ones, a part of them at a time.
import { type GramEntries, readGramFile } from './gram-file.ts';
import { createRowSet, type RowSet } from './row-set.ts';

/** Training rows that may share a gram before it is their template. */
export const TEMPLATE_ROWS = 10;

export interface Compared {
  /** Held-out rows with text of a few training rows, and with text of many. */
  shared: RowSet;
  template: RowSet;
  /** Training rows with text of a held-out one. */
  leaks: RowSet;
}

/** @param trained files of their grams, and @param heldOut those of the same parts */
export async function compareAll(
  trained: string[],
  heldOut: string[],
  rows: number,
  signal: AbortSignal,
): Promise<Compared> {
  const found = { shared: createRowSet(rows), template: createRowSet(rows), leaks: createRowSet(rows) };
  for (const [i, path] of trained.entries()) {
    signal.throwIfAborted();
    compare(await readGramFile(path), await readGramFile(heldOut[i] as string), found);
  }
  return found;
}

function compare(trained: GramEntries, heldOut: GramEntries, { shared, template, leaks }: Compared): void {
  const table = createTrainedRows(trained);
  const isHeld = new Uint8Array(table.slots);
  for (let i = 0; i < heldOut.count; i++) {
    const slot = table.find(heldOut.high(i), heldOut.low(i));
    const rows = table.rowsAt(slot);
    if (rows === 0) continue;
    isHeld[slot] = 1;
    (rows > TEMPLATE_ROWS ? template : shared).add(heldOut.row(i));
  }
  for (let i = 0; i < trained.count; i++) {
    const slot = table.find(trained.high(i), trained.low(i));
    if (isHeld[slot] === 1 && table.rowsAt(slot) <= TEMPLATE_ROWS) leaks.add(trained.row(i));
  }
}

/** How many rows have each gram. Entries of a row stand before those of later rows. */
function createTrainedRows(entries: GramEntries) {
  let slots = 16;
  while (slots < 2 * entries.count) slots *= 2;
  /** Entry plus one; 0 = free. */
  const firstEntry = new Uint32Array(slots);
  const lastRow = new Uint32Array(slots);
  const rows = new Uint8Array(slots);
  const find = (high: number, low: number): number => {
    let slot = (high ^ low) & (slots - 1);
    for (let entry = firstEntry[slot] as number; entry !== 0; entry = firstEntry[slot] as number) {
      if (entries.high(entry - 1) === high && entries.low(entry - 1) === low) break;
      slot = (slot + 1) & (slots - 1);
    }
    return slot;
  };
  for (let i = 0; i < entries.count; i++) {
    const slot = find(entries.high(i), entries.low(i));
    if (firstEntry[slot] === 0) firstEntry[slot] = i + 1;
    else if (lastRow[slot] === entries.row(i)) continue;
    lastRow[slot] = entries.row(i);
    rows[slot] = Math.min(255, (rows[slot] as number) + 1);
  }
  return { slots, find, rowsAt: (slot: number) => rows[slot] as number };
}
