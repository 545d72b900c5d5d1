// The systems of a race: each trains the small model to its end, and whatever trains may be killed again and again meanwhile.
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readEvents, type TimedEvent } from '../src/cli/drill/events.ts';
import { RecipeSchema, type SpecInput } from '../src/contracts/spec.ts';
import { putFolder } from '../src/storage/file-set.ts';
import { createFileStore } from '../src/storage/file-store.ts';
import type { ObjectStore } from '../src/storage/object-store.ts';
import { openBaseModel } from '../src/trainer/base-model.ts';
import { readTrainerRecord } from '../src/trainer/leftovers.ts';
import { train } from '../src/trainer/training.ts';
import { pythonEnvironment, SHARED_MEMORY, type SmallModel } from './small-model.ts';

export interface Race {
  /** Of this race, unique. */
  name: string;
  steps: number;
  /** For the rivals; Anneal paces itself where null. */
  saveSteps: number | null;
  /** Kill -9 so long after the start of each attempt, ms; null = never. */
  killAfterMs: number | null;
  /** A system that has not ended by then never will, ms. */
  limitMs: number;
  signal: AbortSignal;
}

export interface Finish {
  /** null when it did not end in time, or failed. */
  wallMs: number | null;
  killsAtMs: number[];
  events: TimedEvent[];
  weights: string | null;
}

export type System = (small: SmallModel, race: Race) => Promise<Finish>;

/** `until python train.py; do :; done` */
export const bashLoop: System = (small, race) =>
  runRival(small, race, (script, config) => ({
    command: 'bash',
    args: ['-c', 'until "$0" "$1" "$2"; do sleep 0; done', small.python.executable, script, config],
    environment: {},
  }));

export const torchrun: System = (small, race) =>
  runRival(small, race, (script, config) => ({
    command: small.python.executable,
    args: [
      ...['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=1', '--max-restarts=1000'],
      ...[script, config],
    ],
    // Without it restarted workers may read addresses of the dead round (pytorch#167288).
    environment: { TORCH_DISABLE_SHARE_RDZV_TCP_STORE: '1' },
  }));

interface Launch {
  command: string;
  args: string[];
  environment: Record<string, string>;
}

interface RivalEvent extends TimedEvent {
  pid: number;
  sha256?: string;
}

async function runRival(
  { folder, model, shard, python }: SmallModel,
  { name, steps, saveSteps, killAfterMs, limitMs, signal }: Race,
  launch: (script: string, config: string) => Launch,
): Promise<Finish> {
  const own = join(folder, name);
  mkdirSync(own, { recursive: true });
  const [config, log] = [join(own, 'config.json'), join(own, 'log.ndjson')];
  writeFileSync(config, JSON.stringify({ model, shard, output: join(own, 'out'), log, steps, saveSteps }));
  const { command, args, environment } = launch(join(import.meta.dirname, 'rivals', 'plain_trl.py'), config);
  const startedMs = Date.now();
  const output = openSync(join(own, 'output.txt'), 'a');
  const env = { ...pythonEnvironment(python), ...environment };
  const child = spawn(command, args, { cwd: own, env, stdio: ['ignore', output, output], detached: true });
  closeSync(output);
  const ended = new AbortController();
  const exit = new Promise<number | null>((resolve, reject) => child.once('error', reject).once('exit', resolve));
  const killing = killAttempts(() => newestStart(log), killAfterMs, ended.signal);
  const code = await Promise.race([exit, untilLimit(limitMs, signal, ended.signal)]);
  const wallMs = Date.now() - startedMs;
  ended.abort();
  // A worker of torchrun leads a group of its own.
  if (code === null) for (const pid of [child.pid, newestStart(log)?.pid]) endGroup(pid);
  const events = readLog(log);
  const weights = events.findLast(({ ev }) => ev === 'final')?.sha256 ?? null;
  signal.throwIfAborted();
  return { wallMs: code === 0 && weights !== null ? wallMs : null, killsAtMs: await killing, events, weights };
}

function readLog(file: string): RivalEvent[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as RivalEvent);
}

/** Reads one line only: this is done many times while the rival trains. */
function newestStart(file: string): AttemptSeen | null {
  if (!existsSync(file)) return null;
  const text = readFileSync(file, 'utf8');
  const from = text.lastIndexOf('\n', text.lastIndexOf('"ev": "start"')) + 1;
  const to = text.indexOf('\n', from);
  return to === -1 ? null : (JSON.parse(text.slice(from, to)) as RivalEvent);
}

function endGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // it has ended
  }
}

/** What Anneal keeps its checkpoints in, and whether it keeps warm state. */
export interface AnnealOptions {
  store?: ObjectStore;
  isWarm?: boolean;
  /** What is otherwise than in the race's recipe. */
  recipe?: SpecInput['train'];
}

/** The product's own supervision in this process, with a warm parent that runs before. */
export function anneal({ store, isWarm = true, recipe: other = {} }: AnnealOptions = {}): System {
  return async ({ folder, model, shard, python, warmParent }, race) => {
    const { name, steps, saveSteps, killAfterMs, limitMs, signal } = race;
    const place = store ?? createFileStore(join(folder, 'store'));
    const recipe = RecipeSchema.parse({
      ...{ tuning: 'full', epochs: 1_000, maxSteps: steps, microBatch: 4, learningRate: 1e-3, schedule: 'cosine' },
      ...{ warmupRatio: 5 / steps, seed: 7, threads: 2, saveSteps },
      ...other,
    });
    const base = await openBaseModel(model, folder);
    const dataset = await putFolder(place, dirname(shard), signal);
    const ended = new AbortController();
    const killing = killAttempts(watchTrainer(folder), killAfterMs, ended.signal);
    const startedMs = Date.now();
    const training = await train({
      ...{ store: place, python, warmParent, sharedMemory: isWarm ? SHARED_MEMORY : null, state: folder, base },
      ...{ dataset, recipe, stepBefore: null, onProgress: () => undefined },
      claimant: { run: name, workflowRunId: name, attemptScheduledMs: startedMs, host: 'bench' },
      signal: AbortSignal.any([signal, AbortSignal.timeout(limitMs)]),
    }).finally(() => ended.abort());
    const wallMs = Date.now() - startedMs;
    const weights = training.result.weightsSha256;
    return { wallMs, killsAtMs: await killing, events: readEvents(folder, name), weights };
  };
}

/** The trainer that runs of a race, and how many steps it has done; null before there is one. Anneal: of the state's only run. */
export function trainerOf({ folder }: SmallModel, name: string): { pid: number; steps: number } | null {
  const log = join(folder, name, 'log.ndjson');
  const isRival = existsSync(log);
  const pid = isRival ? newestStart(log)?.pid : readTrainerRecord(folder)?.pid;
  const events = isRival ? readLog(log) : readEvents(folder, name);
  return pid === undefined ? null : { pid, steps: events.filter(({ ev }) => ev === 'step').length };
}

interface AttemptSeen {
  pid: number;
  /** Start, ms since the epoch. */
  t: number;
}

function watchTrainer(state: string): () => AttemptSeen | null {
  let seen: AttemptSeen | null = null;
  return () => {
    const pid = readTrainerRecord(state)?.pid ?? null;
    if (pid !== null && seen?.pid !== pid) seen = { pid, t: Date.now() };
    return pid === null ? null : seen;
  };
}

/** Between looks for a new attempt, ms; late kills by so much do not matter to anybody. */
const LOOK_MS = 50;

async function killAttempts(
  newest: () => AttemptSeen | null,
  afterMs: number | null,
  stop: AbortSignal,
): Promise<number[]> {
  const killed: { pid: number; atMs: number }[] = [];
  while (afterMs !== null && !stop.aborted) {
    const attempt = newest();
    const isDue = attempt !== null && attempt.pid !== killed.at(-1)?.pid && Date.now() - attempt.t >= afterMs;
    if (isDue && kill(attempt.pid)) killed.push({ pid: attempt.pid, atMs: Date.now() });
    await sleep(LOOK_MS, undefined, { signal: stop }).catch(() => undefined);
  }
  return killed.map(({ atMs }) => atMs);
}

function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch {
    return false; // it had just ended
  }
}

async function untilLimit(limitMs: number, signal: AbortSignal, ended: AbortSignal): Promise<null> {
  await sleep(limitMs, null, { signal: AbortSignal.any([signal, ended]) }).catch(() => undefined);
  return null;
}
