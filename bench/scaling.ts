// What more processes bring: tokens a second of the same training in one process and in two, by each strategy. Every process has one
// thread, so that two of them have twice the cores of one; on a host with GPUs each has one of them.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { TimedEvent } from '../src/cli/drill/events.ts';
import type { SpecInput } from '../src/contracts/spec.ts';
import { type BenchOptions, type BenchReport, median, round, show } from './report.ts';
import { type SmallModel, withSmallModel } from './small-model.ts';
import { anneal } from './systems.ts';

type TrainInput = NonNullable<SpecInput['train']>;

const FULL = { steps: 120, turns: 3 };
const QUICK = { steps: 30, turns: 1 };
/** At the start, while caches warm up. */
const STEPS_LEFT_OUT = 15;
const LIMIT_MS = 10 * 60_000;

/** The effective batch grows with the processes (weak scaling): each has as much to do as the one. */
const SETTINGS: Record<string, TrainInput> = {
  'one process': { processes: 1 },
  'ddp, two': { processes: 2, strategy: 'ddp' },
  'fsdp, two': { processes: 2, strategy: 'fsdp' },
  'zero2, two': { processes: 2, strategy: 'deepspeed', deepspeed: 'zero2' },
  'zero3, two': { processes: 2, strategy: 'deepspeed', deepspeed: 'zero3' },
};

interface Speed {
  name: string;
  processes: number;
  tokensPerSecond: number;
}

export async function run(options: BenchOptions): Promise<BenchReport> {
  const speeds = await withSmallModel((small) => measureAll(small, options));
  const one = speeds[0]?.tokensPerSecond ?? Number.NaN;
  const efficiency = ({ tokensPerSecond, processes }: Speed) => tokensPerSecond / (one * processes);
  return {
    title: 'Scaling over processes',
    json: Object.fromEntries(
      speeds.map((speed) => [
        speed.name,
        { tokensPerSecond: round(speed.tokensPerSecond), efficiency: round(efficiency(speed), 3) },
      ]),
    ),
    columns: ['setting', 'tokens a second', 'efficiency'],
    rows: speeds.map((speed) => [speed.name, show(speed.tokensPerSecond), show(efficiency(speed), 2)]),
    notes: [
      'Median over turns of tokens a second from step 16 on, no checkpoints, no warm state. Efficiency: of twice the one process’s speed.',
      'The model of `bench goodput`, every weight trained, one thread a process. Two cores that are two threads of one core cannot reach 1.',
    ],
  };
}

async function measureAll(small: SmallModel, { quick, signal, say }: BenchOptions): Promise<Speed[]> {
  const { steps, turns } = quick ? QUICK : FULL;
  const hasDeepSpeed = await isInstalled(small, 'deepspeed');
  if (!hasDeepSpeed) say('DeepSpeed is not installed here: zero2 and zero3 are left out.');
  const settings = Object.entries(SETTINGS).filter(([, { strategy }]) => hasDeepSpeed || strategy !== 'deepspeed');
  const seen = new Map<string, number[]>(settings.map(([name]) => [name, []]));
  for (let turn = 1; turn <= turns; turn++) {
    for (const [name, train] of settings) {
      say(`${name}: ${steps} steps`);
      const race = {
        name: `scaling-${seen.get(name)?.length}-${name.replaceAll(/\W+/g, '-')}`,
        steps,
        saveSteps: 10 * steps,
      };
      const recipe = { ...train, threads: 1 };
      const finish = await anneal({ isWarm: false, recipe })(small, {
        ...race,
        killAfterMs: null,
        limitMs: LIMIT_MS,
        signal,
      });
      seen.get(name)?.push(tokensPerSecond(finish.events));
    }
  }
  return settings.map(([name, { processes = 1 }]) => ({
    ...{ name, processes, tokensPerSecond: median(seen.get(name) ?? []) ?? Number.NaN },
  }));
}

async function isInstalled({ python }: SmallModel, name: string): Promise<boolean> {
  const script = `import importlib.util as u; print(u.find_spec("${name}") is not None)`;
  const { stdout } = await promisify(execFile)(python.executable, ['-c', script]);
  return stdout.trim() === 'True';
}

function tokensPerSecond(events: TimedEvent[]): number {
  const steps = events.filter(({ ev }) => ev === 'step').slice(STEPS_LEFT_OUT);
  const [first, last] = [steps[0], steps.at(-1)];
  if (first === undefined || last === undefined) return Number.NaN;
  return (1000 * ((last.tokens ?? Number.NaN) - (first.tokens ?? 0))) / (last.t - first.t);
}
