// Split brain: a worker is suspended while it trains (its trainer goes on), another takes the run over, the first wakes up and does not
// know. Whatever it still writes must never be read. The bench gives the run away as the server would after its timeout; the first
// worker's lease is left out, so that the claims alone must hold.
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readEvents } from '../src/cli/drill/events.ts';
import { locateLocal } from '../src/cli/drill/local.ts';
import { type Claim, ClaimSchema, type FileSet } from '../src/contracts/records.ts';
import { type Recipe, RecipeSchema } from '../src/contracts/spec.ts';
import { PROTOCOL_VERSION } from '../src/contracts/trainer-protocol.ts';
import { seededRandom } from '../src/evaluation/seeded-random.ts';
import { putFolder } from '../src/storage/file-set.ts';
import { keyNumber, keys } from '../src/storage/keys.ts';
import type { ObjectStore } from '../src/storage/object-store.ts';
import { readJson } from '../src/storage/record.ts';
import { startChild } from '../src/trainer/child.ts';
import { openWarmRoot } from '../src/trainer/warm-state.ts';
import { type BenchOptions, type BenchReport, round, show } from './report.ts';
import { SHARED_MEMORY } from './small-model.ts';
import type { End, Order } from './splitbrain-worker.ts';
import { type Lent, withStore } from './store.ts';

const ROUNDS = { full: 200, quick: 3 };
/** Of one run: some five rounds. */
const STEPS = 800;
const ROWS = 60;
/** A suspension comes at most so long after a save, ms: often in the middle of its commit. */
const AIM_MS_MAX = 150;
/** Between looks at the store, ms. */
const LOOK_MS = 50;
/** Between looks for a save, ms. */
const AIM_LOOK_MS = 5;
/** From one state of a round to the next, ms. */
const WAIT_MS_MAX = 120_000;

interface Tally {
  rounds: number;
  /** Checkpoints that stale attempts had in the store beyond what was taken over. */
  staleWritten: number;
  staleRead: number;
  /** Stale attempts that ended because they had been superseded; the others had nothing left to do. */
  fenced: number;
  runs: number;
  weightsEqual: boolean;
}

export async function run(options: BenchOptions): Promise<BenchReport> {
  const startedMs = Date.now();
  const tally = await withStore(options, (lent) => withWorkers(lent, (workers) => play(lent, workers, options)));
  return {
    title: 'Split brain',
    json: tally,
    columns: [
      'rounds',
      'stale checkpoints written',
      'stale checkpoints read',
      'fenced',
      'runs',
      'weights equal',
      'took',
    ],
    rows: [
      [
        ...[tally.rounds, tally.staleWritten, tally.staleRead, tally.fenced, tally.runs],
        ...[show(tally.weightsEqual), show(round((Date.now() - startedMs) / 60_000, 1), 1, 'min')],
      ],
    ],
    notes: [
      'A round: SIGSTOP to the worker that trains, the other takes over and commits, SIGCONT; the first ends by itself. Each worker is a host of its own.',
      'Read: a claim that resumes from a checkpoint beyond what its claims allow. Goal: 0 in 200 rounds. Weights: of each run, as of one that was left alone.',
      'Ten thousand rounds of the claims with simulated time: `ANNEAL_ROUNDS=10000 npm test -- test/storage/stale-attempts.test.ts`.',
    ],
  };
}

interface Worker {
  child: ChildProcess;
  /** Its host's state folder. */
  state: string;
  /** Starts an attempt; its end. */
  attempt(order: Order): Promise<End>;
}

async function withWorkers<T>(
  { folder, environment }: Lent,
  work: (workers: [Worker, Worker]) => Promise<T>,
): Promise<T> {
  const states = ['host-1', 'host-2'].map((name) => join(folder, name));
  const [first, second] = states.map((state) => startWorker(state, environment)) as [Worker, Worker];
  try {
    return await work([first, second]);
  } finally {
    await Promise.all([first, second].map(endWorker));
    for (const state of states) {
      const warmRoot = await openWarmRoot(SHARED_MEMORY, state);
      if (warmRoot !== null) rmSync(warmRoot, { recursive: true, force: true });
    }
  }
}

function startWorker(state: string, environment: Record<string, string>): Worker {
  mkdirSync(state, { recursive: true });
  const child = fork(join(import.meta.dirname, 'splitbrain-worker.ts'), [state], {
    env: { ...process.env, ...environment, ANNEAL_STATE: state },
  });
  return {
    child,
    state,
    attempt: (order) =>
      new Promise((resolve, reject) => {
        const onExit = () => reject(new Error('A worker ended.'));
        child.once('exit', onExit).once('message', (end) => {
          child.off('exit', onExit);
          resolve(end as End);
        });
        child.send(order);
      }),
  };
}

async function endWorker({ child }: Worker): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGCONT');
  child.disconnect();
  await exited;
}

async function play(lent: Lent, workers: [Worker, Worker], { quick, signal, say }: BenchOptions): Promise<Tally> {
  const rounds = quick ? ROUNDS.quick : ROUNDS.full;
  const order = { dataset: await makeDataset(lent, signal), recipe: makeRecipe() };
  say('training undisturbed');
  const undisturbed = await workers[0].attempt({ run: 'undisturbed', scheduledMs: Date.now(), ...order });
  const tally: Tally = { rounds: 0, staleWritten: 0, staleRead: 0, fenced: 0, runs: 0, weightsEqual: true };
  const random = seededRandom(0);
  while (tally.rounds < rounds) {
    signal.throwIfAborted();
    const disturb: Disturbed = { store: lent.store, run: `run-${++tally.runs}`, order, random, signal };
    const end = await disturbRun(disturb, workers, tally, rounds);
    tally.weightsEqual &&= 'weights' in end && 'weights' in undisturbed && end.weights === undisturbed.weights;
    tally.staleRead += findStaleReads(await readClaims(lent.store, disturb.run)).length;
    say(
      `${tally.rounds} of ${rounds} rounds, ${tally.staleWritten} stale checkpoints written, ${tally.staleRead} read`,
    );
  }
  return tally;
}

interface Disturbed {
  store: ObjectStore;
  run: string;
  order: Pick<Order, 'dataset' | 'recipe'>;
  random: () => number;
  signal: AbortSignal;
}

/** Rounds until the run is done or there are enough; how the run ended. */
async function disturbRun(disturb: Disturbed, workers: [Worker, Worker], tally: Tally, rounds: number): Promise<End> {
  const { run, order, random, signal } = disturb;
  let [active, standby] = workers;
  const begin = (worker: Worker) => watch(worker.attempt({ run, scheduledMs: Date.now(), ...order }));
  let attempt = begin(active);
  while (tally.rounds < rounds) {
    const claim = await untilCommitted(disturb, 0, attempt);
    if (claim === null) break;
    await untilSaved(active, run, attempt);
    await sleep(random() * AIM_MS_MAX, undefined, { signal });
    if (attempt.isOver()) break;
    active.child.kill('SIGSTOP');
    const next = begin(standby);
    await untilCommitted(disturb, claim.number, next);
    active.child.kill('SIGCONT');
    tally.staleWritten += await countBeyond(disturb, claim.number, attempt);
    const stale = await attempt.end;
    if ('kind' in stale && stale.kind === 'fenced') tally.fenced++;
    tally.rounds++;
    [active, standby, attempt] = [standby, active, next];
  }
  return await attempt.end;
}

/** The trainer has just saved once more. */
async function untilSaved({ state }: Worker, run: string, attempt: Watched): Promise<void> {
  const count = () => readEvents(state, run).filter(({ ev }) => ev === 'checkpoint_saved').length;
  for (const before = count(); !attempt.isOver() && count() === before; ) await sleep(AIM_LOOK_MS);
}

interface Watched {
  end: Promise<End>;
  isOver(): boolean;
}

function watch(end: Promise<End>): Watched {
  let isOver = false;
  void end.then(() => {
    isOver = true;
  });
  return { end, isOver: () => isOver };
}

/** The newest claim once it is newer than `after` and has a checkpoint in the store; null when the attempt ends before. */
async function untilCommitted(
  { store, run, signal }: Disturbed,
  after: number,
  attempt: Watched,
): Promise<Claim | null> {
  const deadline = Date.now() + WAIT_MS_MAX;
  while (!attempt.isOver()) {
    const newest = (await readClaims(store, run)).at(-1);
    if (newest !== undefined && newest.number > after && (await stepsOf(store, run, newest.number)).length > 0)
      return newest;
    if (Date.now() > deadline) throw new Error(`Run ${run} has had no new checkpoint for ${WAIT_MS_MAX / 1000} s.`);
    await sleep(LOOK_MS, undefined, { signal });
  }
  return null;
}

async function readClaims(store: ObjectStore, run: string): Promise<Claim[]> {
  const numbers = (await store.list(keys.claims(run)))
    .filter((key) => !key.slice(keys.claims(run).length).includes('/'))
    .map((key) => keyNumber(key) as number)
    .sort((a, b) => a - b);
  const claims = await Promise.all(numbers.map((number) => readJson(store, keys.claim(run, number), ClaimSchema)));
  return claims.filter((claim) => claim !== null);
}

async function stepsOf(store: ObjectStore, run: string, claim: number): Promise<number[]> {
  return (await store.list(keys.checkpoints(run, claim))).map((key) => keyNumber(key) as number);
}

/** Checkpoints of a stale claim beyond the one that was taken over, as seen until its attempt ends: the next claim deletes them. */
async function countBeyond({ store, run }: Disturbed, claim: number, stale: Watched): Promise<number> {
  const next = await readJson(store, keys.claim(run, claim + 1), ClaimSchema);
  const bound = next?.resumeFrom?.claim === claim ? next.resumeFrom.step : 0;
  const beyond = new Set<number>();
  for (let isOver = false; !isOver; await sleep(LOOK_MS)) {
    isOver = stale.isOver();
    for (const step of await stepsOf(store, run, claim)) if (step > bound) beyond.add(step);
  }
  return beyond.size;
}

type Link = Pick<Claim, 'number' | 'resumeFrom'>;

/** Claims that resume from what no claim before them allows: another claim's state beyond the step at which it was taken over. */
export function findStaleReads(claims: Link[]): Link[] {
  return claims.filter(({ number, resumeFrom }) => {
    if (resumeFrom === null) return false;
    const before = claims.find((claim) => claim.number === number - 1);
    const allowed = before === undefined ? undefined : stepsAllowed(claims, before).get(resumeFrom.claim);
    return allowed === undefined || resumeFrom.step > allowed;
  });
}

/** By claim, how far its states lead to where the newest claim stands. */
function stepsAllowed(claims: Link[], newest: Link): Map<number, number> {
  const allowed = new Map<number, number>();
  let claim: Link | undefined = newest;
  let bound = Number.POSITIVE_INFINITY;
  while (claim !== undefined) {
    allowed.set(claim.number, bound);
    const from: Link['resumeFrom'] = claim.resumeFrom;
    if (from === null) break;
    bound = Math.min(bound, from.step);
    claim = claims.find(({ number }) => number === from.claim);
  }
  return allowed;
}

function makeRecipe(): Recipe {
  const often = { saveSteps: 10, evalSteps: STEPS, keep: 3 };
  return RecipeSchema.parse({ epochs: 1_000, maxSteps: STEPS, microBatch: 2, threads: 1, ...often });
}

async function makeDataset({ store, folder }: Lent, signal: AbortSignal): Promise<FileSet> {
  const { python, models } = locateLocal();
  const [output, baseModel] = [join(folder, 'shards'), join(models, 'tiny')];
  const child = startChild({
    python,
    job: { v: PROTOCOL_VERSION, command: 'drill-data', kind: 'sft', baseModel, rows: ROWS, seed: 0, output },
    folder: join(folder, 'drill-data'),
    signal,
    graceMs: 0,
    onEvent: () => undefined,
  });
  const { outcome, message } = await child.ended;
  if (outcome !== 'done') throw new Error(`The data could not be made: ${message}`);
  return await putFolder(store, output, signal);
}
