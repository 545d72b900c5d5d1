// What Anneal costs a step: the same model and rows under a plain TRL script and under Anneal with events and warm state on. Both are
// alive at once and take turns of a second and a half, one of them stopped meanwhile, so that a machine that gets slower slows both.
import { setTimeout as sleep } from 'node:timers/promises';
import type { TimedEvent } from '../src/cli/drill/events.ts';
import { type BenchOptions, type BenchReport, round, show } from './report.ts';
import { type SmallModel, withSmallModel } from './small-model.ts';
import { anneal, bashLoop, type System, trainerOf } from './systems.ts';

const FULL = { steps: 1500 };
const QUICK = { steps: 100 };
/** Far more than a step, far less than what a machine's mood lasts. */
const TURN_MS = 1_500;
/** At the start, while caches warm up and the interval of the warm state is chosen. */
const STEPS_LEFT_OUT = 30;
/** Of each turn: one was under way when the other system stopped, one met cold caches. */
const STEPS_LEFT_OUT_OF_TURN = 2;
const LIMIT_MS = 20 * 60_000;
/** Between looks, ms. */
const LOOK_MS = 20;

const NAMES = ['plain', 'anneal'] as const;
type Name = (typeof NAMES)[number];

interface Turn {
  name: Name;
  fromMs: number;
  toMs: number;
}

export async function run(options: BenchOptions): Promise<BenchReport> {
  const pairs = await withSmallModel((small) => race(small, options));
  const of = (name: Name) => mean(pairs.map((pair) => pair[name]));
  const logs = pairs.map(({ plain, anneal }) => Math.log(anneal / plain));
  const [ratio, error] = [mean(logs), 1.96 * standardError(logs)];
  const [low, high] = [Math.exp(ratio - error), Math.exp(ratio + error)];
  const json = { plainStepMs: round(of('plain'), 2), annealStepMs: round(of('anneal'), 2) };
  return {
    title: 'Step time beside the bare TRL script',
    json: {
      ...json,
      ratio: round(Math.exp(ratio), 4),
      ratioLow: round(low, 4),
      ratioHigh: round(high, 4),
      turns: pairs.length,
    },
    columns: ['turns of each', 'plain TRL', 'anneal', 'ratio', '95 % interval'],
    rows: [
      [
        String(pairs.length),
        show(of('plain'), 2, 'ms'),
        show(of('anneal'), 2, 'ms'),
        show(Math.exp(ratio), 4),
        `${show(low, 4)} to ${show(high, 4)}`,
      ],
    ],
    notes: [
      'Both train at once and take turns of 1.5 s, the other one stopped meanwhile. Mean time from step to step within a turn but for its first two; no checkpoints. Anneal: events and warm state on.',
      'The ratio is the geometric mean over pairs of turns. The model of `bench goodput`. Goal: ratio ≤ 1.01.',
    ],
  };
}

async function race(small: SmallModel, { quick, signal, say }: BenchOptions): Promise<Record<Name, number>[]> {
  const { steps } = quick ? QUICK : FULL;
  const systems: Record<Name, System> = { plain: bashLoop, anneal: anneal() };
  say(`${steps} steps of each`);
  const ended = new AbortController();
  const ends = NAMES.map(async (name) => {
    const race = { name, steps, saveSteps: 10 * steps, killAfterMs: null, limitMs: LIMIT_MS, signal };
    return (await systems[name](small, race).finally(() => ended.abort())).events;
  });
  const turns = await alternate((name) => trainerOf(small, name), ended.signal);
  const [plain, annealed] = await Promise.all(ends);
  const stepsOf: Record<Name, number[]> = { plain: stepEnds(plain), anneal: stepEnds(annealed) };
  return pairUp(turns.map((turn) => ({ name: turn.name, stepMs: meanStepMs(stepsOf[turn.name], turn) })));
}

/** Until one of them has ended; then the other goes on alone. */
async function alternate(trainerOf: (name: Name) => Trainer | null, ended: AbortSignal): Promise<Turn[]> {
  const turns: Turn[] = [];
  const isWarm = () => NAMES.every((name) => (trainerOf(name)?.steps ?? 0) >= STEPS_LEFT_OUT);
  while (!isWarm() && !ended.aborted) await sleep(LOOK_MS);
  const pids = NAMES.map((name) => trainerOf(name)?.pid);
  try {
    for (let i = 0; !ended.aborted; i++) {
      // plain, anneal, anneal, plain: a steady drift favours nobody.
      const runs = i % 4 === 0 || i % 4 === 3 ? 0 : 1;
      signalTo(pids[1 - runs], 'SIGSTOP');
      signalTo(pids[runs], 'SIGCONT');
      const fromMs = Date.now();
      await sleep(TURN_MS, undefined, { signal: ended }).catch(() => undefined);
      turns.push({ name: NAMES[runs] as Name, fromMs, toMs: Date.now() });
    }
  } finally {
    for (const pid of pids) signalTo(pid, 'SIGCONT');
  }
  // The last one was cut short.
  return turns.slice(0, -1);
}

interface Trainer {
  pid: number;
  steps: number;
}

function signalTo(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, signal);
  } catch {
    // it had just ended
  }
}

function stepEnds(events: TimedEvent[] = []): number[] {
  return events.filter(({ ev }) => ev === 'step').map(({ t }) => t);
}

/** null where a turn holds too few steps. */
function meanStepMs(ends: number[], { fromMs, toMs }: Turn): number | null {
  const within = ends.filter((t) => t > fromMs && t <= toMs).slice(STEPS_LEFT_OUT_OF_TURN - 1);
  if (within.length < 3) return null;
  return ((within.at(-1) as number) - (within[0] as number)) / (within.length - 1);
}

/** Neighbouring turns of the two. */
function pairUp(turns: { name: Name; stepMs: number | null }[]): Record<Name, number>[] {
  const pairs: Record<Name, number>[] = [];
  for (let i = 0; i + 1 < turns.length; i += 2) {
    const [first, second] = [turns[i], turns[i + 1]];
    if (!first?.stepMs || !second?.stepMs) continue;
    const [plain, annealed] = first.name === 'plain' ? [first.stepMs, second.stepMs] : [second.stepMs, first.stepMs];
    pairs.push({ plain, anneal: annealed });
  }
  return pairs;
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function standardError(values: number[]): number {
  const middle = mean(values);
  const variance = values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
  return Math.sqrt(variance / values.length);
}
