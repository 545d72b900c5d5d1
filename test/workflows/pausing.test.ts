// Pauses, budgets and sweeps on a real Temporal server, with activities that only pretend to train: they count steps, save when they are
// told to stop, and go on from there.
import { tmpdir } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { checkSpec, checkSweep } from '../../src/activities/check-spec.ts';
import { type AnnealClient, connect } from '../../src/client/connect.ts';
import type { RunDescription } from '../../src/client/description.ts';
import { TASK_QUEUES } from '../../src/contracts/names.ts';
import type { CheckSizeInput, TrainInput, TrainPaused, TrainResultSummary } from '../../src/contracts/stages.ts';
import type { SweepStatus } from '../../src/contracts/status.ts';
import { ACCOUNTS } from '../cli/pretend-results.ts';
import { bundle, startServer } from '../cli/pretend-workers.ts';
import { createAnneal } from '../support/anneal.ts';

/** A pretended step, ms; each costs a GPU second. */
const STEP_MS = 5;
const STEPS = 100;
/** Of the pretended worker's price table. */
const PRICE = 3600 / 25;

let env: TestWorkflowEnvironment;
let client: AnnealClient;
let stop: () => Promise<void>;
/** Steps that are done, by run: what the store would hold. */
const saved = new Map<string, number>();
/** What every call of the activity was given and how it ended. */
const calls: { input: TrainInput; from: number; to: number }[] = [];
/** Runs that stand still at a step. */
const holdAt = new Map<string, number>();

beforeAll(async () => {
  const [server, workflowBundle] = await Promise.all([startServer(['matching.enableFairness=true']), bundle()]);
  env = server;
  const workers = await Promise.all(
    Object.values(TASK_QUEUES).map((taskQueue) =>
      Worker.create({
        connection: env.nativeConnection,
        taskQueue,
        activities: { checkSpec, checkSweep, checkSize, ingest, planRanges, train },
        maxHeartbeatThrottleInterval: '50ms',
        ...(taskQueue === TASK_QUEUES.control && { workflowBundle }),
        ...(taskQueue === TASK_QUEUES.gpu && { maxConcurrentActivityTaskExecutions: 1 }),
      }),
    ),
  );
  const ended = Promise.all(workers.map((worker) => worker.run()));
  stop = async () => {
    for (const worker of workers) worker.shutdown();
    await ended;
  };
  client = await connect({
    ...{ ANNEAL_TEMPORAL_ADDRESS: env.address, ANNEAL_TEMPORAL_NAMESPACE: 'default', ANNEAL_WEB_UI: '' },
  });
});
afterAll(async () => {
  await client?.close();
  await stop?.();
  await env?.teardown();
});

/** One rank has no room for what two share. */
const checkSize = async ({ run, to }: CheckSizeInput) =>
  run === 'narrow' && to.processes === 1 ? 'One rank would need 60.00 GiB; choose more.' : null;
const ingest = async () => ({ snapshot: 'a'.repeat(64), contents: [], sizeBytes: 1, outcome: '' });
const done = { dataset: 'd'.repeat(64), accounts: ACCOUNTS, trainTokens: 5, outcome: '' };
const planRanges = async () => ({ preparation: 'p', ranges: 1, done, outcome: 'was prepared before' });

/** Its loss falls with the steps and rises with the distance of the learning rate from 0.5. */
const lossOf = ({ spec }: TrainInput, step: number) => Math.abs(spec.train.learningRate - 0.5) + 1 - step / STEPS;

async function train(input: TrainInput): Promise<TrainResultSummary | TrainPaused> {
  const { run, pauseAt, gpuSecondsMax, costUsdMax } = input;
  const from = saved.get(run) ?? 0;
  const call = { input, from, to: from };
  calls.push(call);
  const gpuSeconds = () => (input.gpuSecondsBefore ?? 0) + call.to - from;
  if (input.spec.train.learningRate === 1) throw ApplicationFailure.nonRetryable('The loss is NaN.', 'loss_not_finite');
  while (call.to < STEPS) {
    Context.current().heartbeat({ stage: 'train', phase: 'train', step: call.to, of: STEPS, gpuSeconds: gpuSeconds() });
    if (Context.current().cancellationSignal.aborted) {
      throw new CancelledFailure('CANCELLED', [{ step: call.to, gpuSeconds: gpuSeconds() }]);
    }
    await pause(STEP_MS);
    if (call.to >= (holdAt.get(run) ?? STEPS)) continue;
    call.to++;
    saved.set(run, call.to);
    const at = { step: call.to, gpuSeconds: gpuSeconds() };
    if (costUsdMax !== undefined && at.gpuSeconds >= (costUsdMax / PRICE) * 3600)
      return { outcome: '', paused: { ...at, kind: 'budget_reached', evalLoss: null, pricePerGpuHour: PRICE } };
    if (gpuSecondsMax !== undefined && at.gpuSeconds >= gpuSecondsMax && call.to < STEPS)
      return { outcome: '', paused: { ...at, kind: 'budget_reached', evalLoss: null } };
    if (pauseAt !== undefined && call.to >= Math.ceil(pauseAt * STEPS))
      return { outcome: '', paused: { ...at, kind: 'rung', evalLoss: lossOf(input, call.to) } };
  }
  return {
    ...{ record: 't', step: STEPS, loss: 1, evalLoss: lossOf(input, STEPS), gpuSeconds: gpuSeconds() },
    ...{ trainableParameters: 1, totalParameters: 2, recoveries: 0, weightsSha256: 'b', outcome: '' },
    goodput: { share: 1, lostSeconds: {} },
  };
}

const specOf = (name: string, more: object = {}) => ({
  ...{ name, data: { sources: [{ uri: 'example:x' }] }, until: 'train' as const },
  ...more,
});
const callsOf = (run: string) => calls.filter(({ input }) => input.run === run);
const start = async (run: string, more: object = {}) => client.startRun(specOf(run, more) as never, { runId: run });
const end = async (run: string) => client.waitForRun(run, { intervalMs: 50 });

async function until(run: string, wanted: (description: RunDescription) => boolean): Promise<RunDescription> {
  return (await vi.waitUntil(
    async () => {
      // A sweep may not have started it yet.
      const description = await client.describeRun(run).catch(() => null);
      return description !== null && wanted(description) && description;
    },
    { timeout: 20_000, interval: 50 },
  )) as RunDescription;
}
const isPaused = ({ state }: RunDescription) => state === 'paused';
const isTraining = ({ progress }: RunDescription) => (progress?.step ?? 0) > 0;

describe('a pause', () => {
  test('ends the activity, is told to everybody, and the rest of the training goes on where it stopped', async () => {
    holdAt.set('paused', 30);
    await start('paused');
    await until('paused', isTraining);
    await client.pauseRun('paused', { by: 'ann', why: 'the GPU is needed' });
    const paused = await until('paused', isPaused);
    expect(paused.status.paused).toMatchObject({
      kind: 'requested',
      by: 'ann',
      why: 'the GPU is needed',
      isSaving: false,
    });
    expect(paused.status.paused?.step).toBe(callsOf('paused')[0]?.to);
    expect(paused.note).toMatch(/^Paused by ann since .*: the GPU is needed\. `anneal resume paused` goes on\.$/);
    expect((await client.describeRun('paused')).pending).toEqual([]);
    const listed = async () => (await client.listRuns()).find(({ run }) => run === 'paused')?.state;
    await expect.poll(listed).toBe('paused');
    await expect(client.pauseRun('paused', {})).rejects.toMatchObject({
      kind: 'run_refused',
      message: expect.stringMatching(/^Run paused is paused already, since .*: the GPU is needed$/),
    });
    holdAt.delete('paused');
    await client.resumeRun('paused', { by: 'bob' });
    const ended = await end('paused');
    expect(ended).toMatchObject({ state: 'completed', status: { paused: null, training: { step: STEPS } } });
    expect(ended.status.decisions).toMatchObject([
      { by: 'ann', what: 'paused', why: 'the GPU is needed' },
      { by: 'bob', what: 'resumed' },
    ]);
    const [first, second] = callsOf('paused');
    expect(second?.from).toBe(first?.to);
    // GPU time is counted over both, the wait is not.
    expect(ended.status.gpuSeconds).toBe(STEPS);
  });

  test('frees the GPU for others, and can be cancelled', async () => {
    holdAt.set('waits', 10);
    await start('waits');
    await until('waits', ({ progress }) => progress?.step === 10);
    await start('other');
    await client.pauseRun('waits', {});
    expect((await end('other')).state).toBe('completed');
    expect((await client.describeRun('waits')).state).toBe('paused');
    await client.cancelRun('waits');
    const ended = await end('waits');
    expect(ended).toMatchObject({ state: 'cancelled', status: { paused: null, failure: { kind: 'cancelled' } } });
    holdAt.delete('waits');
    await client.resumeRun('waits');
    expect((await end('waits')).state).toBe('completed');
    expect(callsOf('waits').at(-1)?.from).toBe(10);
  });

  test('a training goes on with other ranks, paused or not, and after its end; what cannot be shared is refused', async () => {
    holdAt.set('shared', 5);
    await start('shared', { train: { learningRate: 0.5, accumulation: 4, processes: 2 } });
    await until('shared', isTraining);
    await expect(client.resumeRun('shared', { hosts: 3 })).rejects.toMatchObject({
      kind: 'run_refused',
      message: expect.stringMatching(
        /^Run shared cannot go on so: Each step has 8 micro-batches of \d+, which 3 hosts with 2 ranks each cannot share equally, so that the effective batch would change; choose hosts and ranks whose product divides 8\.$/,
      ),
    });
    await expect(client.resumeRun('shared', { processes: 0.5 })).rejects.toMatchObject({
      message: expect.stringContaining('`processes` must be a whole number from 1 to 16, got 0.5.'),
    });
    await client.resumeRun('shared', { by: 'ann', processes: 1, why: 'a GPU broke' });
    await expect.poll(() => callsOf('shared').at(-1)?.input.size).toEqual({ hosts: 1, processes: 1 });
    await client.pauseRun('shared', {});
    await until('shared', isPaused);
    await client.resumeRun('shared', { by: 'ben', processes: 4 });
    await expect.poll(() => callsOf('shared').at(-1)?.input.size).toEqual({ hosts: 1, processes: 4 });
    await client.cancelRun('shared');
    await end('shared');
    holdAt.delete('shared');
    await client.resumeRun('shared');
    const { status } = await end('shared');
    expect(status).toMatchObject({ size: { hosts: 1, processes: 4 }, training: { step: STEPS } });
    expect(callsOf('shared').map(({ input }) => input.size?.processes)).toEqual([undefined, 1, 4, 4]);
  });

  test('a training that would not fit on fewer ranks is told so, and goes on as it was', async () => {
    holdAt.set('narrow', 5);
    await start('narrow', { train: { learningRate: 0.5, accumulation: 2, processes: 2 } });
    await until('narrow', isTraining);
    await expect(client.resumeRun('narrow', { processes: 1 })).rejects.toMatchObject({
      kind: 'run_refused',
      message: 'Run narrow cannot go on so: One rank would need 60.00 GiB; choose more.',
    });
    holdAt.delete('narrow');
    const { status } = await end('narrow');
    expect(status.training).toMatchObject({ step: STEPS });
    expect(callsOf('narrow').map(({ input }) => input.size)).toEqual([undefined]);
  });

  test('is refused where nothing trains', async () => {
    await expect(client.pauseRun('other', {})).rejects.toMatchObject({ kind: 'run_not_running' });
    await start('early', { until: 'ingest' });
    await end('early');
    holdAt.set('busy', 5);
    await start('busy');
    await until('busy', isTraining);
    await expect(client.pauseRun('busy', { why: 'x'.repeat(501) })).rejects.toMatchObject({
      message: '`why` must be a text of at most 500 characters.',
    });
    await expect(client.resumeRun('busy')).rejects.toMatchObject({ kind: 'run_not_resumable' });
    holdAt.delete('busy');
    await end('busy');
  });

  test('of a run that is cancelled while it saves leaves it cancelled', async () => {
    holdAt.set('both', 5);
    await start('both');
    await until('both', isTraining);
    await Promise.all([client.pauseRun('both', {}), client.cancelRun('both')]).catch(() => undefined);
    expect((await end('both')).state).toBe('cancelled');
  });
});

describe('a budget', () => {
  test('pauses the run with a sentence; more of it goes on, too little is refused', async () => {
    await start('poor', { budget: { gpuHours: 40 / 3600 } });
    const paused = await until('poor', isPaused);
    expect(paused.status.paused).toMatchObject({ kind: 'budget_reached', step: 40 });
    expect(paused.note).toContain('is used up: 0.011 GPU hours. `anneal budget poor` with `--gpu-hours`');
    await expect(client.resumeRun('poor')).rejects.toMatchObject({ message: expect.stringContaining('is used up') });
    await expect(client.setBudget('poor', { budget: { gpuHours: 39 / 3600 } })).rejects.toMatchObject({
      kind: 'run_refused',
    });
    await client.setBudget('poor', { by: 'cfo', budget: { gpuHours: 70 / 3600 } });
    await until('poor', ({ status }) => status.paused?.step === 70);
    await client.resumeRun('poor', { budget: { gpuHours: null } });
    const ended = await end('poor');
    expect(ended.status.gpuSeconds).toBe(STEPS);
    expect(callsOf('poor').map(({ from, to }) => [from, to])).toEqual([
      [0, 40],
      [40, 70],
      [70, STEPS],
    ]);
  });

  test('by cost counts hours at the price', async () => {
    await start('dear', { budget: { costUsd: 1, pricePerGpuHour: 3600 / 25 } });
    const paused = await until('dear', isPaused);
    expect(paused.status.paused).toMatchObject({ kind: 'budget_reached', step: 25 });
    expect(paused.note).toContain('`budget.costUsd` of 1 is used up');
    await client.cancelRun('dear');
  });

  test('by cost alone counts at the price of the worker’s table, which then holds', async () => {
    await start('table', { budget: { costUsd: 1 } });
    const paused = await until('table', isPaused);
    expect(paused.status.paused).toMatchObject({ kind: 'budget_reached', step: 25 });
    expect(paused.note).toContain(`is used up: 0.0069 GPU hours at ${PRICE}.`);
    await expect(client.resumeRun('table')).rejects.toMatchObject({ message: expect.stringContaining('is used up') });
    await client.setBudget('table', { budget: { costUsd: 2 } });
    await until('table', ({ status }) => status.paused?.step === 50);
    await client.setBudget('table', { budget: { costUsd: null } });
    expect((await end('table')).state).toBe('completed');
    holdAt.set('later', 5);
    await start('later', { budget: { deadline: '1h' } });
    await until('later', isTraining);
    await expect(client.setBudget('later', { budget: { costUsd: 1 } })).rejects.toMatchObject({
      message: expect.stringContaining('`budget.pricePerGpuHour` must be given'),
    });
    holdAt.delete('later');
    await end('later');
  });

  test('by deadline pauses the running training at that time', async () => {
    holdAt.set('late', 20);
    await start('late');
    await until('late', ({ progress }) => progress?.step === 20);
    const deadline = new Date(Date.now() + 1_000).toISOString();
    await client.setBudget('late', { budget: { deadline } });
    const paused = await until('late', isPaused);
    expect(paused.note).toContain('`budget.deadline`');
    expect(paused.status.paused?.step).toBe(20);
    holdAt.delete('late');
    await client.setBudget('late', { budget: { deadline: '1h' } });
    expect((await end('late')).state).toBe('completed');
  });

  test('that is changed while it trains holds from then on', async () => {
    holdAt.set('changed', 10);
    await start('changed');
    await until('changed', isTraining);
    await client.setBudget('changed', { budget: { gpuHours: 50 / 3600 } });
    await vi.waitUntil(() => callsOf('changed').length === 2, { timeout: 20_000 });
    holdAt.delete('changed');
    const paused = await until('changed', isPaused);
    expect(paused.status.paused).toMatchObject({ kind: 'budget_reached', step: 50 });
    await client.cancelRun('changed');
  });
});

describe('a sweep', () => {
  const sweepOf = (name: string, more: object) => ({ name, spec: specOf(name), ...more }) as never;

  async function sweepEnd(sweep: string): Promise<SweepStatus> {
    let last = null;
    for await (last of client.watchSweep(sweep, { intervalMs: 50 }));
    return last?.status as SweepStatus;
  }

  test('halves its trials at the rungs; the best ends, the losers wait and can be resumed', async () => {
    const rates = [0.1, 0.3, 0.45, 0.9, 1];
    await client.startSweep(sweepOf('rates', { grid: { 'train.learningRate': rates }, rungs: [0.2, 0.4] }), {
      sweepId: 'rates',
    });
    const status = await sweepEnd('rates');
    expect(status.winner).toBe('rates-03');
    expect(status.result).toMatchObject({ run: 'rates-03', training: { step: STEPS } });
    expect(status.trials.map(({ state, step }) => [state, step])).toEqual([
      ['lost', 20],
      ['lost', 40],
      ['won', 40],
      ['lost', 20],
      ['failed', null],
    ]);
    expect(status.trials.map(({ why }) => why)).toEqual([
      'place 3 of 4 at 20 % of the steps, 2 went on',
      'place 2 of 2 at 40 % of the steps, 1 went on',
      null,
      'place 4 of 4 at 20 % of the steps, 2 went on',
      'The loss is NaN.',
    ]);
    // Each trained every step once.
    expect(callsOf('rates-03').map(({ from, to }) => [from, to])).toEqual([
      [0, 20],
      [20, 40],
      [40, STEPS],
    ]);
    expect(callsOf('rates-01').map(({ from, to }) => [from, to])).toEqual([[0, 20]]);
    expect((await client.describeRun('rates-01')).status.paused).toMatchObject({ kind: 'rung', by: 'rates', step: 20 });
    await client.resumeRun('rates-01', { by: 'ann' });
    expect((await end('rates-01')).state).toBe('completed');
    expect(callsOf('rates-01').at(-1)).toMatchObject({ from: 20, to: STEPS });
    for (const loser of ['rates-02', 'rates-04']) await client.cancelRun(loser);
  });

  test('goes on without a trial that people have paused, names it, and takes it back in while there is time', async () => {
    const rates = [0.5, 0.4, 0.3];
    for (const n of ['01', '02', '03']) holdAt.set(`hands-${n}`, 10);
    const input = sweepOf('hands', {
      grid: { 'train.learningRate': rates },
      rungs: [0.2, 0.4],
      keep: 0.9,
      concurrent: 1,
    });
    await client.startSweep(input, { sweepId: 'hands' });
    const trial = async (n: number) => (await client.describeSweep('hands')).status?.trials[n - 1];
    // The best of them, and one that comes back before the others are there.
    for (const run of ['hands-01', 'hands-02']) {
      await until(run, isTraining);
      await client.pauseRun(run, { by: 'ann', why: 'looks odd' });
      await vi.waitUntil(async () => (await trial(Number(run.slice(-2))))?.state === 'held', { timeout: 20_000 });
    }
    expect(await trial(1)).toMatchObject({ step: expect.any(Number), why: 'paused by ann: looks odd' });
    await client.resumeRun('hands-02', { by: 'ann' });
    holdAt.clear();
    const status = await sweepEnd('hands');
    expect(status.winner).toBe('hands-02');
    expect(status.trials.map(({ state }) => state)).toEqual(['lost', 'won', 'lost']);
    expect(status.trials[0]?.why).toBe('left out at 20 % of the steps: paused by ann: looks odd');
    await client.resumeRun('hands-01');
    await until('hands-01', ({ status }) => status.paused?.kind === 'rung');
    for (const loser of ['hands-01', 'hands-03']) await client.cancelRun(loser);
  });

  test('waits where all that are left are paused', async () => {
    holdAt.set('alone-01', 10);
    await client.startSweep(sweepOf('alone', { trials: [{ 'train.learningRate': 0.5 }], rungs: [0.2] }), {
      sweepId: 'alone',
    });
    await until('alone-01', isTraining);
    await client.pauseRun('alone-01', { by: 'ann' });
    await until('alone-01', isPaused);
    expect((await client.describeSweep('alone')).state).toBe('running');
    holdAt.clear();
    await client.resumeRun('alone-01');
    expect((await sweepEnd('alone')).winner).toBe('alone-01');
  });

  test('whose budgets are used up waits, and whoever follows it is told; more for one lets it win', async () => {
    const spec = specOf('broke', { budget: { gpuHours: 10 / 3600 } });
    const input = { name: 'broke', spec, grid: { 'train.learningRate': [0.5, 0.4] }, rungs: [0.2] };
    await client.startSweep(input as never, { sweepId: 'broke' });
    const anneal = createAnneal({ cwd: tmpdir(), env: { ANNEAL_TEMPORAL_ADDRESS: env.address } });
    const followed = await anneal(['watch', 'broke']);
    expect(followed.code, followed.stderr).toBe(11);
    expect(followed.stdout).toContain('Sweep broke waits for budgets');
    const trials = (await client.describeSweep('broke')).status?.trials;
    expect(trials?.map(({ state, step }) => [state, step])).toEqual([
      ['held', 10],
      ['held', 10],
    ]);
    await client.setBudget('broke-01', { by: 'cfo', budget: { gpuHours: null } });
    expect(await sweepEnd('broke')).toMatchObject({
      winner: 'broke-01',
      trials: [{ state: 'won' }, { state: 'lost' }],
    });
    await client.cancelRun('broke-02');
  });

  test('never uses more than its own budget: its trials wait, saved, it asks, and more lets the best win', async () => {
    const gpuHours = 100 / 3600;
    const grid = { 'train.learningRate': [0.1, 0.2, 0.3, 0.4] };
    const input = { name: 'purse', spec: specOf('purse') as never, grid, budget: { gpuHours } };
    await client.startSweep(input, { sweepId: 'purse' });
    const used = () => {
      const own = calls.filter(({ input: { run } }) => run.startsWith('purse-'));
      return own.reduce((sum, { from, to }) => sum + to - from, 0);
    };
    for await (const { status } of client.watchSweep('purse', { intervalMs: 50 })) if (status?.asks) break;
    const { status } = await client.describeSweep('purse');
    expect(status?.asks).toMatch(/Its trials wait, saved; `anneal budget purse` with .* gives more and goes on/);
    // All but what is too little to start a trainer for; a step of each of two trials may be beyond it.
    expect(used()).toBeGreaterThan(90);
    expect(used()).toBeLessThanOrEqual(102);
    const held = status?.trials.find(({ state }) => state === 'held');
    expect(held).toMatchObject({ isOutOfBudget: true, why: expect.stringContaining('part of the sweep’s budget') });
    expect((await client.describeRun(held?.run as string)).state).toBe('paused');

    const anneal = createAnneal({ cwd: tmpdir(), env: { ANNEAL_TEMPORAL_ADDRESS: env.address } });
    const shown = await anneal(['watch', 'purse']);
    expect(shown.code).toBe(11);
    expect(shown.stdout).toMatch(/budget: of 0.02\d* GPU hours 0.02\d* are used/);
    await expect(client.setBudget('purse', { budget: { gpuHours: 50 / 3600 } })).rejects.toMatchObject({
      kind: 'run_refused',
      message: expect.stringMatching(/is used up: 0\.02\d* GPU hours\. Give more\.$/),
    });
    expect((await anneal(['budget', 'purse', '--gpu-hours', '1'])).stdout).toContain('Sweep purse has a new budget');
    const last = await sweepEnd('purse');
    expect(last).toMatchObject({ winner: 'purse-04', asks: null, result: { training: { step: STEPS } } });
    // As many steps as without a budget: four to the first rung, two to the second, one to the end.
    expect(used()).toBe(4 * 25 + 2 * 25 + 50);
  }, 60_000);

  test('whose deadline comes saves all that train, and goes on when it is given time', async () => {
    for (const n of [1, 2]) holdAt.set(`overdue-0${n}`, 10);
    const grid = { 'train.learningRate': [0.1, 0.2] };
    const deadline = new Date(Date.now() + 3_000).toISOString();
    const input = { name: 'overdue', spec: specOf('overdue') as never, grid, rungs: [0.5], budget: { deadline } };
    await client.startSweep(input, { sweepId: 'overdue' });
    for await (const { status } of client.watchSweep('overdue', { intervalMs: 50 })) if (status?.asks) break;
    const { status } = await client.describeSweep('overdue');
    expect(status?.asks).toContain('`budget.deadline`');
    expect(status?.trials.map(({ state }) => state)).toContain('held');
    holdAt.clear();
    await client.setBudget('overdue', { budget: { deadline: '1h' } });
    expect(await sweepEnd('overdue')).toMatchObject({ winner: 'overdue-02', asks: null });
  }, 60_000);

  test('compares at the end of the training where the rung says so', async () => {
    const trials = [{ 'train.learningRate': 0.2 }, { 'train.learningRate': 0.6 }];
    await client.startSweep(sweepOf('whole', { trials, rungs: [1], concurrent: 1 }), { sweepId: 'whole' });
    const status = await sweepEnd('whole');
    expect(status.trials.map(({ state, step }) => [state, step])).toEqual([
      ['lost', STEPS],
      ['won', STEPS],
    ]);
    await client.cancelRun('whole-01');
  });

  test('that is cancelled cancels its trials, and started again goes on with what they have done', async () => {
    for (const n of ['01', '02']) holdAt.set(`again-${n}`, 30);
    const input = sweepOf('again', { grid: { 'train.learningRate': [0.2, 0.6] }, rungs: [0.2, 0.4] });
    await client.startSweep(input, { sweepId: 'again' });
    // Past its first rung it stands still.
    await vi.waitUntil(() => saved.get('again-02') === 30, { timeout: 20_000 });
    await client.cancelRun('again');
    await sweepEnd('again');
    for (const n of ['01', '02']) expect((await end(`again-${n}`)).state).toBe('cancelled');
    holdAt.clear();
    expect(await client.startSweep(input, { sweepId: 'again' })).toBe('started');
    expect((await sweepEnd('again')).winner).toBe('again-02');
    await client.cancelRun('again-01');
  });

  test('with nothing left fails with the first trial’s reason', async () => {
    const trials = [{ 'train.learningRate': 1 }];
    await client.startSweep(sweepOf('hopeless', { trials }), { sweepId: 'hopeless' });
    await sweepEnd('hopeless');
    expect(await client.describeSweep('hopeless')).toMatchObject({
      state: 'failed',
      failure: { kind: 'loss_not_finite', message: expect.stringContaining('The loss is NaN.') },
    });
  });

  test('that is wrong says everything at once', async () => {
    const input = { name: 'wrong', spec: specOf('wrong'), grid: { 'train.epoch': [1], 'register.model': ['a'] } };
    await client.startSweep(input as never, { sweepId: 'wrong' });
    await sweepEnd('wrong');
    const { failure } = await client.describeSweep('wrong');
    expect(failure?.message).toMatch(/`register\.model` cannot be tried: .*did you mean `epochs`\?/);
  });
});

describe('the queue', () => {
  test('a high priority overtakes, and two teams take turns', async () => {
    holdAt.set('first', 5);
    await start('first');
    await until('first', isTraining);
    const of = (team: string, priority: number | null = null) => ({ queue: { team, priority } });
    const waiting = [
      ...[1, 2, 3].map((n) => [`a${n}`, of('a')] as const),
      ...[1, 2].map((n) => [`b${n}`, of('b')] as const),
      ['urgent', of('a', 1)] as const,
    ];
    for (const [run, queue] of waiting) {
      await start(run, queue);
      await until(run, ({ pending }) => pending.some(({ activity }) => activity === 'train'));
    }
    holdAt.delete('first');
    for (const [run] of waiting) await end(run);
    const order = calls.map(({ input }) => input.run).filter((run) => waiting.some(([one]) => one === run));
    expect(order[0]).toBe('urgent');
    const teams = order.slice(1, 5).map((run) => run[0]);
    expect(teams.filter((team) => team === 'b')).toHaveLength(2);
  });
});
