// One kill in a drill: waits for its moment, kills by SIGKILL, and measures what it cost from the trainer's events.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AnnealClient } from '../../client/connect.ts';
import type { SpecInput } from '../../contracts/spec.ts';
import type { PartName, Stack } from '../../dev/stack.ts';
import { CliError } from '../failures.ts';
import type { Output } from '../output.ts';
import { costOfKill, highestStep, type KillCost, readEvents, type TimedEvent } from './events.ts';
import type { Moment } from './moments.ts';

export type KillKind = 'trainer' | 'worker' | 'temporal' | 'store';

export const KILL_NAMES: Record<KillKind, string> = {
  trainer: 'the trainer',
  worker: 'the GPU worker',
  temporal: 'the Temporal server',
  store: 'the object store',
};

/** Between looks at the trainer's events, ms: the error of the times that are measured. */
const POLL_MS = 20;
/** From a kill to a new step: a heartbeat timeout, loading a model on a busy machine, and room, ms. */
const RECOVERY_MS_MAX = 5 * 60_000;
/** From the start of a run to its first step, ms. */
const FIRST_STEP_MS_MAX = 10 * 60_000;

export interface Drill {
  stack: Stack;
  client: AnnealClient;
  state: string;
  spec: SpecInput;
  output: Output;
  signal: AbortSignal;
}

export interface Kill extends KillCost {
  /** From the kill until the replacement ran. */
  detectedMs: number;
  /** From the kill until the next attempt claimed the run; null when the attempt went on. */
  takenOverMs: number | null;
}

export async function killOnce(
  drill: Drill,
  part: KillKind,
  run: string,
  moment: Moment,
  lastKilledAt: number,
): Promise<Kill> {
  const afterStep = Math.max(moment.afterStep, lastKilledAt + 1);
  const limit = lastKilledAt === 0 ? FIRST_STEP_MS_MAX : RECOVERY_MS_MAX;
  const events = await until(drill, limit, `step ${afterStep} of run ${run}`, () => {
    const seen = readEvents(drill.state, run);
    return highestStep(seen) >= afterStep ? seen : null;
  });
  await sleep(moment.intoStep * secondsOfStep(events) * 1000, undefined, { signal: drill.signal });
  const before = identify(drill, part);
  if (before === null || hasEnded(readEvents(drill.state, run))) {
    throw new CliError(
      'drill_too_late',
      `Run ${run} trained on past step ${afterStep} to its end before ${KILL_NAMES[part]} could be killed; use a larger base model or fewer kills.`,
    );
  }
  const killedAtMs = Date.now();
  await kill(drill, part, before);
  const detectedMs = await until(drill, RECOVERY_MS_MAX, `a new ${part}`, () => {
    const now = identify(drill, part);
    return now !== null && now !== before ? Date.now() - killedAtMs : null;
  });
  const endsTrainer = part === 'trainer' || part === 'worker';
  const cost = await until(drill, RECOVERY_MS_MAX, `a new step of run ${run}`, () =>
    costOfKill(readEvents(drill.state, run), killedAtMs, endsTrainer),
  );
  const claim = readEvents(drill.state, run).find(({ ev, t }) => ev === 'claim' && t > killedAtMs);
  return { ...cost, detectedMs, takenOverMs: claim === undefined ? null : claim.t - killedAtMs };
}

/** The process whose replacement shows that the death was noticed: a killed worker is taken over when a new trainer runs. */
function identify(drill: Drill, part: KillKind): number | null {
  if (part === 'temporal' || part === 'store') return drill.stack.pidOf(part);
  return trainerPid(drill.state);
}

async function kill(drill: Drill, part: KillKind, pid: number): Promise<void> {
  if (part === 'trainer') process.kill(pid, 'SIGKILL');
  else
    await drill.stack.kill(
      ({ worker: 'gpu', temporal: 'temporal', store: 'store' } satisfies Record<string, PartName>)[part],
    );
}

function trainerPid(state: string): number | null {
  try {
    return (JSON.parse(readFileSync(join(state, 'gpu', 'trainer.json'), 'utf8')) as { pid: number }).pid;
  } catch {
    return null; // none runs, or its record is being written
  }
}

async function until<T>(drill: Drill, limitMs: number, what: string, look: () => T | null): Promise<T> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    drill.signal.throwIfAborted();
    const found = look();
    if (found !== null) return found;
    if (Date.now() > deadline) {
      throw new CliError('drill_timeout', `Waited ${limitMs / 1000} s in vain for ${what}; the logs say why.`);
    }
    await sleep(POLL_MS, undefined, { signal: drill.signal });
  }
}

function secondsOfStep(events: TimedEvent[]): number {
  return events.findLast((event) => event.ev === 'step')?.seconds ?? 0;
}

function hasEnded(events: TimedEvent[]): boolean {
  return events.at(-1)?.ev === 'done';
}
