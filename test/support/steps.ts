// The rows that tests train on, and what they wait for while a training runs.
import { setTimeout as pause } from 'node:timers/promises';
import { highestStep, readEvents } from '../../src/cli/drill/events.ts';

/** A test that is not at an end by then never will be, also on a loaded machine, ms. */
const WAIT_MS_MAX = 300_000;

/** Chats with three different answers. */
export function colourRows(count: number) {
  return Array.from({ length: count }, (_, i) => ({
    messages: [
      { role: 'user', content: `item ${i}: which colour has number ${(i * 37) % 101}?` },
      { role: 'assistant', content: ['red', 'green', 'blue'][i % 3] as string },
    ],
  }));
}

export const asLines = (rows: object[]) => rows.map((row) => JSON.stringify(row)).join('\n');

/** Looks again and again, until there is something. */
export async function until<T>(what: string, look: () => Promise<T | null | undefined | false>): Promise<T> {
  const deadline = Date.now() + WAIT_MS_MAX;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`Waited ${WAIT_MS_MAX / 1000} s in vain for ${what}.`);
    await pause(50);
  }
}

/** Highest step that a trainer of the run has told of; 0 before the first. */
export const stepOf = (state: string, run: string) => highestStep(readEvents(state, run));

export async function untilStep(state: string, run: string, step: number): Promise<void> {
  await until(`step ${step} of ${run}`, async () => stepOf(state, run) >= step);
}
