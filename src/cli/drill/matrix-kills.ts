// Kills in the matrix: which moments, and the killer that waits for them and shoots from outside, as a stranger would.
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readTrainerRecord } from '../../trainer/leftovers.ts';
import type { TimedEvent } from './events.ts';

/** A kill of one trainer. */
export interface Shot {
  /**
   * Once it has done this step of the run, or resumes from there or later; `load`: before its first step;
   * `end`: once the run's last step is done.
   */
  at: number | 'load' | 'end';
  /** How far into the time that follows: a step's, the loading's or the end's (0 to 1). */
  into: number;
  /** One rank alone, or null for the whole process group. */
  rank: number | null;
}

/** Steps at the end that are left to the last trainer. */
const STEPS_LEFT_MIN = 2;
/** So many steps a shot may come before the one ahead of it hit: among steps that are done again. */
const STEPS_BACK_MAX = 3;
/** Share of the shots that hit while a trainer loads. */
const LOAD_SHARE = 0.2;
/** Share of the shots at a gang that hit one rank alone. */
const RANK_SHARE = 0.5;

/** Random shots all over the run. */
export function chooseShots(kills: number, steps: number, processes: number, random: () => number): Shot[] {
  const last = Math.max(1, steps - STEPS_LEFT_MIN);
  const cuts = Array.from({ length: kills }, () => 1 + Math.floor(random() * last)).sort((a, b) => a - b);
  return cuts.map((cut) => {
    const back = Math.floor(random() * (STEPS_BACK_MAX + 1));
    return {
      at: random() < LOAD_SHARE ? 'load' : Math.max(1, cut - back),
      into: random(),
      rank: processes > 1 && random() < RANK_SHARE ? Math.floor(random() * processes) : null,
    };
  });
}

/** Shots at trainers that have nothing left to do but finish. */
export function chooseLastShots(kills: number, processes: number, random: () => number): Shot[] {
  return chooseShots(kills, 1, processes, random).map((shot) => ({ ...shot, at: 'end' }));
}

/** For a negative control: even shots, the last of them as late as can be, where every hole shows. */
export function evenShots(kills: number, steps: number): Shot[] {
  const last = steps - STEPS_LEFT_MIN;
  return Array.from({ length: kills }, (_, i) => ({ at: Math.floor(((i + 1) * last) / kills), into: 0.5, rank: null }));
}

export interface Target {
  /** Folder of the host's state. */
  state: string;
  eventsFile: string;
  /** Of the undisturbed run. */
  steps: number;
  signal: NodeJS.Signals;
}

/** Between looks at the trainer's events, ms: less than any of its steps takes. */
const LOOK_MS = 2;
/** From its start to its first step, a forked trainer takes at least so long, ms. */
const LOAD_MS_MIN = 50;
/** From the last checkpoint to the exported weights, ms. */
const END_MS = 10;

/** Shoots until there are no shots left or `stop` aborts. Returns how many hit. */
export async function shoot(shots: Shot[], target: Target, stop: AbortSignal): Promise<number> {
  const events = tailEvents(target.eventsFile);
  let hits = 0;
  let before: number | null = null;
  let loadMs = LOAD_MS_MIN;
  try {
    for (const shot of shots) {
      const pid = await until(stop, () => newTrainer(target.state, before));
      before = pid;
      const startedMs = Date.now();
      events.forget();
      const spanMs = shot.at === 'load' ? loadMs : await until(stop, () => spanOf(shot.at, target, events.read()));
      await sleep(shot.into * spanMs, undefined, { signal: stop });
      if (strike(pid, shot, target.signal)) hits++;
      const firstStep = events.read().find(({ ev }) => ev === 'step');
      if (firstStep !== undefined) loadMs = firstStep.t - startedMs;
    }
  } catch (error) {
    if (!stop.aborted) throw error;
  } finally {
    events.close();
  }
  return hits;
}

/** Once the shot's event is there: in which time after it to shoot, ms. */
function spanOf(at: Shot['at'], { steps }: Target, events: TimedEvent[]): number | null {
  if (at === 'end') return events.some((event) => isAtEnd(event, steps)) ? END_MS : null;
  const found = events.find(
    ({ ev, step = 0, from = 0 }) => (ev === 'step' ? step : ev === 'plan' ? from : 0) >= Number(at),
  );
  return found === undefined ? null : found.ev === 'step' ? 1000 * (found.seconds ?? 0) : LOAD_MS_MIN;
}

/** Its last checkpoint is saved, or it goes on from there. */
function isAtEnd({ ev, step = 0, from = 0 }: TimedEvent, steps: number): boolean {
  return (ev === 'checkpoint_saved' && step >= steps) || (ev === 'plan' && from >= steps);
}

function newTrainer(state: string, before: number | null): number | null {
  const pid = readTrainerRecord(state)?.pid ?? null;
  return pid === before ? null : pid;
}

function strike(leader: number, { rank }: Shot, signal: NodeJS.Signals): boolean {
  try {
    process.kill(rank === null ? -leader : (ranksOf(leader)[rank] ?? -leader), signal);
    return true;
  } catch {
    return false; // it had just ended
  }
}

/** A gang's leader has its ranks as children. Empty where the kernel does not tell. */
function ranksOf(leader: number): number[] {
  try {
    const children = readFileSync(`/proc/${leader}/task/${leader}/children`, 'utf8').trim();
    return children === '' ? [] : children.split(' ').map(Number);
  } catch {
    return [];
  }
}

interface Tail {
  /** All events since the last `forget`. */
  read(): TimedEvent[];
  forget(): void;
  close(): void;
}

/** Follows a file of events that may not be there yet. */
function tailEvents(file: string): Tail {
  const buffer = Buffer.alloc(64 * 1024);
  let handle: number | null = null;
  let rest = '';
  let events: TimedEvent[] = [];

  const read = () => {
    try {
      handle ??= openSync(file, 'r');
    } catch {
      return events; // nobody has trained yet
    }
    for (let length = 1; length > 0; ) {
      length = readSync(handle, buffer, 0, buffer.length, null);
      rest += buffer.toString('utf8', 0, length);
    }
    const lines = rest.split('\n');
    rest = lines.pop() as string;
    events.push(...lines.map((line) => JSON.parse(line) as TimedEvent));
    return events;
  };

  return {
    read,
    forget() {
      read();
      events = [];
    },
    close: () => void (handle !== null && closeSync(handle)),
  };
}

async function until<T>(stop: AbortSignal, look: () => T | null): Promise<T> {
  for (;;) {
    stop.throwIfAborted();
    const found = look();
    if (found !== null) return found;
    await sleep(LOOK_MS, undefined, { signal: stop });
  }
}
