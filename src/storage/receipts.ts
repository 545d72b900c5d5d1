// Receipts of recoveries, kept under the run at once, so that the next claim has them even if this worker dies.
import { type Receipt, ReceiptSchema } from '../contracts/records.ts';
import { keys } from './keys.ts';
import type { ObjectStore } from './object-store.ts';
import { createJson, readJson } from './record.ts';
import { untilAnswered } from './until-answered.ts';

export interface ReceiptWriter {
  /** Returns at once. A receipt is written when its recovery begins (`open`) and again when it is over (`closed`). */
  write(receipt: Receipt, state: 'open' | 'closed'): void;
  /** Resolves when all are written. Rejects when that is impossible or the signal aborts. */
  drain(): Promise<void>;
}

export function createReceiptWriter(store: ObjectStore, run: string, signal: AbortSignal): ReceiptWriter {
  let written: Promise<unknown> = Promise.resolve();
  return {
    write(receipt, state) {
      const key = keys.receipt(run, receipt.claim, receipt.number, state);
      const fixed = { ...receipt };
      written = written.then(() => untilAnswered(() => createJson(store, key, fixed), signal));
      written.catch(() => undefined); // whoever drains gets it
    },
    async drain() {
      await written;
    },
  };
}

/** Every receipt of the run's claims, oldest first; of an unfinished recovery what was known at its beginning. */
export async function readReceipts(store: ObjectStore, run: string): Promise<Receipt[]> {
  const found = new Map<string, Receipt>();
  // In the order of keys, `closed` comes before `open`.
  for (const key of (await store.list(keys.receipts(run))).sort()) {
    const name = key.replace(/-(open|closed)\.json$/, '');
    if (found.has(name)) continue;
    const receipt = await readJson(store, key, ReceiptSchema);
    if (receipt !== null) found.set(name, receipt);
  }
  return [...found.values()].sort((a, b) => a.claim - b.claim || a.number - b.number);
}
