// How far a training on this host has come, read from what its trainers have told.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

/** A run of the tests reaches any of its steps by then, also on a loaded machine, ms. */
const REACH_MS_MAX = 300_000;

/** Highest step that a trainer of the run has told of; 0 before the first. */
function stepOf(state: string, run: string): number {
  try {
    const lines = readFileSync(join(state, 'gpu', 'runs', run, 'events.ndjson'), 'utf8')
      .trim()
      .split('\n');
    return Math.max(0, ...lines.map((line) => (JSON.parse(line) as { step?: number }).step ?? 0));
  } catch {
    return 0; // nothing there yet, or a line that is just being written
  }
}

export async function untilStep(state: string, run: string, step: number): Promise<void> {
  const deadline = Date.now() + REACH_MS_MAX;
  while (stepOf(state, run) < step) {
    if (Date.now() > deadline) throw new Error(`Run ${run} did not reach step ${step} in ${REACH_MS_MAX / 1000} s.`);
    await pause(50);
  }
}
