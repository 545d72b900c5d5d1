// What operators and machines do to a running training, on real servers: pause, unpause, reset, cancel, the end of a worker.
// Each time it is saved at a step edge, committed, handed over, and ends at the same bytes.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AnnealClient, connect } from '../../src/client/connect.ts';
import type { SweepDescription } from '../../src/client/sweeps.ts';
import { readEnvironment } from '../../src/contracts/environment.ts';
import { DEFAULT_PORTS, FREE_PORTS } from '../../src/dev/ports.ts';
import { type Stack, startStack } from '../../src/dev/stack.ts';
import { committedSteps } from '../../src/storage/claim.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { createStoreFromEnvironment } from '../../src/storage/open-store.ts';
import { readReceipts } from '../../src/storage/receipts.ts';
import { readTrainerRecord } from '../../src/trainer/leftovers.ts';
import { createHoldingPython, type HoldingPython } from '../support/holding-python.ts';
import { asLines, colourRows, stepOf, until, untilStep } from '../support/steps.ts';

const RUN_MS_MAX = 300_000;

let folder: string;
let state: string;
let stack: Stack;
let client: AnnealClient;
let temporal: Connection;
let store: ObjectStore;
let python: HoldingPython;
let undisturbed: string;
let steps = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-handover-'));
  state = join(folder, 'state');
  const project = join(import.meta.dirname, '../..');
  python = createHoldingPython(project, folder);
  stack = await startStack({
    ...{ project, state, environment: { ANNEAL_PYTHON: python.executable } },
    // The gateway takes no part, so its port is never opened.
    ports: { ...FREE_PORTS, gateway: DEFAULT_PORTS.gateway },
    database: 'file',
    parts: ['temporal', 'store', 'control', 'data', 'gpu'],
  });
  const environment = readEnvironment(stack.environment);
  client = await connect(environment);
  temporal = await Connection.connect({ address: environment.ANNEAL_TEMPORAL_ADDRESS });
  store = createStoreFromEnvironment(environment);
  await writeFile(join(folder, 'rows.jsonl'), asLines(colourRows(150)));
  await startRun('still');
  undisturbed = await weightsOf('still');
  steps = (await client.describeRun('still')).status.training?.step ?? 0;
}, RUN_MS_MAX);

afterAll(async () => {
  await temporal?.close();
  await store?.close();
  await client?.close();
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
}, 60_000);

const specOf = (name: string) => ({
  name,
  model: { base: 'tiny' },
  data: { sources: [{ uri: join(folder, 'rows.jsonl') }] },
  train: { epochs: 12, microBatch: 4, learningRate: 0.01, lora: { dropout: 0.1 }, threads: 1 },
  until: 'train' as const,
});

/** It waits near its end for what is done to it. */
async function startRun(run: string): Promise<void> {
  if (steps > 0) python.hold(steps - 1);
  await client.startRun(specOf(run), { runId: run });
}

async function weightsOf(run: string): Promise<string> {
  const ended = await client.waitForRun(run, { outageMsMax: 60_000 });
  expect(ended.status?.failure ?? null).toBeNull();
  return ended.status?.training?.weightsSha256 as string;
}

/** The train activity of a run as the server sees it. */
async function pending(run: string) {
  const { pendingActivities } = await temporal.workflowService.describeWorkflowExecution({
    namespace: 'default',
    execution: { workflowId: run },
  });
  return pendingActivities?.find(({ activityId }) => activityId === 'train');
}

const trainerIsGone = () => until('the end of the trainer', async () => readTrainerRecord(state) === null);
const committed = async (run: string, claim: number) =>
  (await committedSteps(store, run, { claim, stepMax: Number.POSITIVE_INFINITY })).steps;
const activity = (run: string) => ({
  namespace: 'default',
  execution: { workflowId: run },
  id: 'train',
  identity: 'test',
});

async function expectHandedOver(run: string): Promise<void> {
  python.release();
  expect(await weightsOf(run)).toBe(undisturbed);
  const receipts = await readReceipts(store, run);
  expect(receipts.map(({ kind, action, lostSteps }) => [kind, action, lostSteps])).toEqual([
    ['preempted', 'taken_over', 0],
  ]);
  expect((await client.describeRun(run)).status?.training?.recoveries).toBe(1);
}

/** What people wanted is no recovery, and the time in which it waited no loss. */
async function expectWaited(run: string): Promise<void> {
  python.release();
  expect(await weightsOf(run)).toBe(undisturbed);
  expect(await readReceipts(store, run)).toEqual([]);
  const { training } = (await client.describeRun(run)).status;
  expect(training?.recoveries).toBe(0);
  expect(training?.goodput.lostSeconds.paused).toBeGreaterThan(0);
}

const untilPaused = (run: string) =>
  until(`the pause of ${run}`, async () => {
    const description = await client.describeRun(run);
    return description.state === 'paused' && description;
  });

describe('a running training', () => {
  test('paused: saves, commits, ends; unpaused: goes on where it was', { timeout: RUN_MS_MAX }, async () => {
    await startRun('paused');
    await untilStep(state, 'paused', 20);
    await temporal.workflowService.pauseActivity({ ...activity('paused'), reason: 'the test' });
    await trainerIsGone();
    await until('the pause', async () => (await pending('paused'))?.paused);
    await until('the commit', async () => ((await committed('paused', 1))[0] ?? 0) >= 20);
    await pause(1_000);
    expect(readTrainerRecord(state)).toBeNull();
    await expect(client.resumeRun('paused')).rejects.toThrow(/paused by an operator; unpause it in the Web UI/);
    await temporal.workflowService.unpauseActivity(activity('paused'));
    await expectWaited('paused');
  });

  test('reset: the next attempt goes on where it was', { timeout: RUN_MS_MAX }, async () => {
    await startRun('reset');
    await untilStep(state, 'reset', 20);
    await temporal.workflowService.resetActivity(activity('reset'));
    await expectHandedOver('reset');
  });

  test('its worker told to end: saves and commits within the grace', { timeout: RUN_MS_MAX }, async () => {
    await startRun('preempted');
    await untilStep(state, 'preempted', 20);
    process.kill(stack.pidOf('gpu') as number, 'SIGTERM');
    await trainerIsGone();
    await until('the commit', async () => ((await committed('preempted', 1))[0] ?? 0) >= 20);
    await stack.waitReady('gpu');
    await expectHandedOver('preempted');
  });

  test('cancelled: saves, and is cancelled, not failed; started again it goes on', {
    timeout: RUN_MS_MAX,
  }, async () => {
    await startRun('cancelled');
    await untilStep(state, 'cancelled', 20);
    await client.cancelRun('cancelled');
    const ended = await client.waitForRun('cancelled');
    expect(ended.status?.failure?.kind).toBe('cancelled');
    expect((await committed('cancelled', 1))[0]).toBeGreaterThanOrEqual(20);
    await startRun('cancelled');
    await expectWaited('cancelled');
  });

  test('paused by an Update: saves and frees the GPU, resumed it goes on where it was', {
    timeout: RUN_MS_MAX,
  }, async () => {
    await startRun('waits');
    await untilStep(state, 'waits', 20);
    await client.pauseRun('waits', { by: 'the test', why: 'to see it wait' });
    const { status } = await untilPaused('waits');
    expect(readTrainerRecord(state)).toBeNull();
    expect((await committed('waits', 1))[0]).toBe(status.paused?.step);
    expect(stepOf(state, 'waits')).toBe(status.paused?.step);
    await client.resumeRun('waits', { by: 'the test' });
    await expectWaited('waits');
  });

  test('at the end of its budget: saves and asks; with more it goes on where it was', {
    timeout: RUN_MS_MAX,
  }, async () => {
    await startRun('poor');
    await untilStep(state, 'poor', 20);
    // Nobody knows how long this machine takes for a step, so the budget is what it has used, and a second more.
    const used = (await client.describeRun('poor')).progress?.gpuSeconds ?? 0;
    await client.setBudget('poor', { budget: { gpuHours: (used + 1) / 3600 } });
    const { status } = await untilPaused('poor');
    expect(status.paused?.kind).toBe('budget_reached');
    expect(status.gpuSeconds).toBeGreaterThan(used);
    const saved = await Promise.all([1, 2].map((claim) => committed('poor', claim)));
    expect(Math.max(...saved.flat())).toBe(status.paused?.step);
    await client.setBudget('poor', { budget: { gpuHours: 1 } });
    await expectWaited('poor');
  });

  test('the best trial of a sweep ends at the bytes of a run that nobody stopped', {
    timeout: RUN_MS_MAX,
  }, async () => {
    const input = { name: 'rates', spec: specOf('rates'), grid: { 'train.learningRate': [1e-6, 0.01] }, rungs: [0.02] };
    await client.startSweep(input, { sweepId: 'rates' });
    let last: SweepDescription | null = null;
    for await (last of client.watchSweep('rates'));
    expect(last?.failure).toBeNull();
    expect(last?.status).toMatchObject({ winner: 'rates-02', result: { training: { weightsSha256: undisturbed } } });
    const [loser] = last?.status?.trials ?? [];
    expect(loser).toMatchObject({ state: 'lost', step: Math.ceil(0.02 * steps) });
    expect(stepOf(state, 'rates-01')).toBe(loser?.step);
    // All trials share one dataset.
    expect(await store.list('runs/rates-01/stages/preprocess-')).toHaveLength(1);
    expect(await store.list('prepared/')).toHaveLength(1);
    await client.cancelRun('rates-01');
    await client.waitForRun('rates-01');
  });
});
