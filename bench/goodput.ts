// Goodput under kills: the small model is trained to the end while whatever trains it is killed 15 s into every attempt. Anneal beside a
// TRL script in a restart loop and torchrun, all in one run on one machine, one after the other.
import { costOfKill, type TimedEvent } from '../src/cli/drill/events.ts';
import { type BenchOptions, type BenchReport, median, round, show } from './report.ts';
import { type SmallModel, withSmallModel } from './small-model.ts';
import { anneal, bashLoop, type Finish, type Race, type System, torchrun } from './systems.ts';

const FULL = { steps: 900, killAfterMs: 15_000 };
/** An attempt of a rival loads for some six seconds. */
const QUICK = { steps: 150, killAfterMs: 12_000 };
/** Steps between the rivals' checkpoints; Anneal paces itself. */
const RIVAL_SAVE_STEPS = 20;
/** A system that needs so many times the undisturbed time has a crash loop. */
const PATIENCE = 6;
const UNDISTURBED_MS_MAX = 30 * 60_000;

interface Result {
  name: string;
  /** null: it never ended. */
  goodput: number | null;
  kills: number;
  wallSeconds: number | null;
  /** Median, undisturbed. */
  stepMs: number | null;
  /** From a kill until the next attempt is in its training loop. */
  killToLoopMsP50: number | null;
  killToFirstNewStepMsP50: number | null;
  /** Mean of the steps done again. */
  stepsLostPerKill: number | null;
  /** As those of the same system undisturbed. */
  weightsEqual: boolean;
}

export async function run(options: BenchOptions): Promise<BenchReport> {
  const systems = await withSmallModel((small) => race(small, options));
  return {
    title: 'Goodput under kills',
    json: { systems },
    columns: [
      ...['system', 'goodput', 'kills', 'wall', 'step', 'kill → training loop (p50)', 'kill → first new step (p50)'],
      ...['steps lost per kill', 'weights as undisturbed'],
    ],
    rows: systems.map((its) => [
      its.name,
      show(its.goodput, 3),
      its.kills,
      show(its.wallSeconds, 1, 's'),
      show(its.stepMs, 1, 'ms'),
      show(its.killToLoopMsP50, 0, 'ms'),
      show(its.killToFirstNewStepMsP50, 0, 'ms'),
      show(its.stepsLostPerKill, 1),
      show(its.weightsEqual),
    ]),
    notes: [
      'Goodput: steps × step time of the plain script undisturbed ÷ wall from submission to the end; a system that steps faster counts with its own step time.',
      'A llama of 2.9 million parameters, all trained, fp32, micro-batches of 4 rows of 80 tokens, 2 threads. SIGKILL to the trainer so long after its start; rivals save every 20 steps.',
      'The warm parent runs before submission, as in a GPU worker; supervision without Temporal, checkpoints to a folder.',
      'Goal: goodput ≥ 0.93; kill → training loop ≤ 300 ms; kill → first new step ≤ 1,000 ms; steps lost ≤ 1 per kill.',
    ],
  };
}

async function race(small: SmallModel, { quick, signal, say }: BenchOptions): Promise<Result[]> {
  const { steps, killAfterMs } = quick ? QUICK : FULL;
  const common = { steps, signal, limitMs: UNDISTURBED_MS_MAX };
  const undisturbed = async (name: string, system: System, saveSteps: number | null) => {
    say(`${name}, undisturbed`);
    return await system(small, { ...common, name: `${name}-undisturbed`, saveSteps, killAfterMs: null });
  };
  const plain = await undisturbed('bash', bashLoop, RIVAL_SAVE_STEPS);
  const plainStepMs = stepMsOf(plain.events);
  const limitMs = PATIENCE * (plain.wallMs ?? UNDISTURBED_MS_MAX);
  const disturbed = async (name: string, system: System, saveSteps: number | null, before: Finish) => {
    say(`${name}, killed ${killAfterMs / 1000} s into every attempt`);
    const race: Race = { ...common, name, saveSteps, killAfterMs, limitMs };
    return summarise(name, race, await system(small, race), before, plainStepMs);
  };
  const ours = await undisturbed('anneal', anneal(), null);
  return [
    await disturbed('anneal', anneal(), null, ours),
    await disturbed('bash', bashLoop, RIVAL_SAVE_STEPS, plain),
    await disturbed('torchrun', torchrun, RIVAL_SAVE_STEPS, plain),
  ];
}

function summarise(name: string, { steps }: Race, finish: Finish, before: Finish, plainStepMs: number): Result {
  const { wallMs, killsAtMs, events } = finish;
  const costs = killsAtMs.flatMap((atMs) => costOfKill(events, atMs, true) ?? []);
  const loops = killsAtMs.flatMap((atMs) => {
    const plan = events.find(({ ev, t }) => ev === 'plan' && t > atMs);
    return plan === undefined ? [] : [plan.t - atMs];
  });
  const stepMs = stepMsOf(before.events);
  const lost = costs.reduce((sum, { stepsLost }) => sum + stepsLost, 0);
  return {
    name,
    goodput: wallMs === null ? null : round((steps * Math.min(stepMs, plainStepMs)) / wallMs, 3),
    kills: killsAtMs.length,
    wallSeconds: wallMs === null ? null : round(wallMs / 1000, 1),
    stepMs: round(stepMs, 1),
    killToLoopMsP50: round(median(loops)),
    killToFirstNewStepMsP50: round(median(costs.map(({ nextNewStepMs }) => nextNewStepMs))),
    stepsLostPerKill: costs.length === 0 ? null : round(lost / costs.length, 2),
    weightsEqual: finish.weights !== null && finish.weights === before.weights,
  };
}

/** Median time from the end of one step to the end of the next. */
export function stepMsOf(events: TimedEvent[]): number {
  const ends = events.filter(({ ev }) => ev === 'step');
  const gaps = ends.slice(1).map(({ t }, i) => t - (ends[i] as TimedEvent).t);
  return median(gaps) ?? Number.NaN;
}
