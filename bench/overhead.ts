// What Anneal costs a step: the same model and rows under a plain TRL script and under Anneal with events and warm state on, in turns.
import type { TimedEvent } from '../src/cli/drill/events.ts';
import { type BenchOptions, type BenchReport, median, round, show } from './report.ts';
import { type SmallModel, withSmallModel } from './small-model.ts';
import { anneal, bashLoop, type System } from './systems.ts';

const FULL = { steps: 300, turns: 9 };
const QUICK = { steps: 60, turns: 1 };
/** At the start, while caches warm up and the interval of the warm state is chosen. */
const STEPS_LEFT_OUT = 30;
const LIMIT_MS = 10 * 60_000;

export async function run(options: BenchOptions): Promise<BenchReport> {
  const turns = await withSmallModel((small) => takeTurns(small, options));
  const of = (name: keyof Turn) => median(turns.map((turn) => turn[name])) as number;
  const ratio = median(turns.map(({ plainMs, annealMs }) => annealMs / plainMs)) as number;
  const json = { plainStepMs: round(of('plainMs'), 2), annealStepMs: round(of('annealMs'), 2), ratio: round(ratio, 4) };
  return {
    title: 'Step time beside the bare TRL script',
    json: { ...json, turns: turns.length },
    columns: ['turn', 'plain TRL', 'anneal', 'ratio'],
    rows: [
      ...turns.map(({ plainMs, annealMs }, i) => row(String(i + 1), plainMs, annealMs, annealMs / plainMs)),
      row('median', of('plainMs'), of('annealMs'), ratio),
    ],
    notes: [
      'Mean time from step to step after the first 30, all between them included; no checkpoints. Anneal: events and warm state on.',
      'The model of `bench goodput`. Goal: ratio ≤ 1.01.',
    ],
  };
}

function row(name: string, plainMs: number, annealMs: number, ratio: number): string[] {
  return [name, show(plainMs, 2, 'ms'), show(annealMs, 2, 'ms'), show(ratio, 4)];
}

interface Turn {
  plainMs: number;
  annealMs: number;
}

async function takeTurns(small: SmallModel, { quick, signal, say }: BenchOptions): Promise<Turn[]> {
  const { steps, turns } = quick ? QUICK : FULL;
  const measure = async (name: string, system: System) => {
    say(`${name}: ${steps} steps`);
    const race = { name, steps, saveSteps: 10 * steps, killAfterMs: null, limitMs: LIMIT_MS, signal };
    return meanStepMs((await system(small, race)).events);
  };
  const taken: Turn[] = [];
  for (let i = 1; i <= turns; i++) {
    // Who is first changes, so that a machine that slows down favours nobody.
    const first = i % 2 === 1 ? await measure(`plain-${i}`, bashLoop) : null;
    const annealMs = await measure(`anneal-${i}`, anneal());
    taken.push({ annealMs, plainMs: first ?? (await measure(`plain-${i}`, bashLoop)) });
  }
  return taken;
}

function meanStepMs(events: TimedEvent[]): number {
  const ends = events.filter(({ ev }) => ev === 'step').slice(STEPS_LEFT_OUT);
  return ((ends.at(-1)?.t ?? Number.NaN) - (ends[0]?.t ?? Number.NaN)) / (ends.length - 1);
}
