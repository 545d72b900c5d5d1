// What a run's trainer events say about a kill: the step it hit, the steps it cost, and when there was a new one.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A line of `events.ndjson`: a trainer event with the time at which it was read, ms since the epoch. */
export interface TimedEvent {
  t: number;
  ev: string;
  step?: number;
  from?: number;
  source?: string;
  seconds?: number;
  tokens?: number;
  everySteps?: number;
}

/** Whole lines only: the last one may be being written. */
export function readEvents(state: string, run: string): TimedEvent[] {
  const file = join(state, 'gpu', 'runs', run, 'events.ndjson');
  if (!existsSync(file)) return [];
  const text = readFileSync(file, 'utf8');
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as TimedEvent);
}

export function highestStep(events: TimedEvent[]): number {
  return events.reduce((highest, event) => (event.ev === 'step' ? Math.max(highest, event.step ?? 0) : highest), 0);
}

export interface KillCost {
  atStep: number;
  stepsLost: number;
  /** From the kill to the first step that had not been done before. */
  nextNewStepMs: number;
}

/**
 * null until there is a new step. What a dying trainer said is read after the kill too, so where the kill ends the trainer
 * (`endsTrainer`), all that comes before the next trainer's plan still counts as done before.
 */
export function costOfKill(events: TimedEvent[], killedAtMs: number, endsTrainer: boolean): KillCost | null {
  const isAfter = (event: TimedEvent) => event.t > killedAtMs;
  const planAt = events.findIndex((event) => isAfter(event) && event.ev === 'plan');
  if (endsTrainer && planAt === -1) return null;
  const recoveryAt = planAt === -1 ? events.findIndex(isAfter) : planAt;
  if (recoveryAt === -1) return null;
  const atStep = highestStep(events.slice(0, recoveryAt));
  const next = events.slice(recoveryAt).find((event) => event.ev === 'step' && (event.step ?? 0) > atStep);
  if (!next) return null;
  const resumedFrom = planAt === -1 ? atStep : (events[planAt]?.from ?? 0);
  return { atStep, stepsLost: Math.max(0, atStep - resumedFrom), nextNewStepMs: next.t - killedAtMs };
}
