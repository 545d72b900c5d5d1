// What is recorded for the replay test: the real runs, and what happens to each.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import type { AnnealClient } from '../../src/client/connect.ts';
import type { RunInput } from '../../src/client/runs.ts';
import { POOL } from '../../src/contracts/names.ts';
import type { PoolState } from '../../src/contracts/pool.ts';
import type { Stack } from '../../src/dev/stack.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import type { HistoryName } from './histories.ts';
import { untilStep } from './steps.ts';

export interface Recorder {
  stack: Stack;
  folder: string;
  state: string;
  client: AnnealClient;
  temporal: Client;
  write(name: HistoryName, workflowId: string, runId?: string): Promise<void>;
}

interface Recording {
  makes: HistoryName[];
  record(recorder: Recorder): Promise<void>;
}

const spec = (name: string, more: object = {}): RunInput => ({
  name,
  model: { base: 'tiny' },
  data: { sources: [{ uri: 'example:rows.jsonl' }] },
  train: { maxSteps: 30, microBatch: 4, learningRate: 0.02 },
  evaluate: { match: 'none', rows: 12 },
  ...more,
});
/** Knows as few answers as before. */
const noBetter = {
  train: { maxSteps: 2, microBatch: 4 },
  evaluate: { match: 'exact', rows: 12, maxNewTokens: 4, control: { shots: 0 }, gate: { metric: 'match' } },
};
/** Steps enough to be caught in the middle of. */
const longTraining = { epochs: 12, microBatch: 4, learningRate: 0.02, saveSteps: 20 };
const long = { train: longTraining };

export const RECORDINGS: Recording[] = [
  { makes: ['finished'], record: (recorder) => recordEnd(recorder, 'finished', spec('finished')) },
  {
    makes: ['wrong-spec'],
    record: (recorder) => recordEnd(recorder, 'wrong-spec', { name: 'WRONG', train: { epoch: 2 } }),
  },
  { makes: ['gate-failed'], record: (recorder) => recordEnd(recorder, 'gate-failed', spec('gate-failed', noBetter)) },
  { makes: ['cancelled', 'resumed'], record: recordCancelled },
  { makes: ['killed-workers'], record: recordKilled },
  { makes: ['retraining-run', 'retraining-skipped'], record: recordRetraining },
  { makes: ['paused'], record: recordPaused },
  { makes: ['sweep', 'sweep-winner'], record: recordSweep },
  { makes: ['sweep-of-budget', 'sweep-of-budget-winner'], record: recordSweepOfBudget },
  { makes: ['two-hosts', 'two-hosts-gang', 'anneal-gpu-pool'], record: recordTwoHosts },
];

async function recordEnd({ client, write }: Recorder, name: HistoryName, input: object): Promise<void> {
  await client.startRun(input as never, { runId: name });
  await client.waitForRun(name);
  await write(name, name);
}

async function recordCancelled({ client, state, write }: Recorder): Promise<void> {
  await client.startRun(spec('cancelled', long), { runId: 'cancelled' });
  await untilStep(state, 'cancelled', 50);
  await client.cancelRun('cancelled');
  const { execution } = await client.waitForRun('cancelled');
  await write('cancelled', 'cancelled', execution);
  await client.resumeRun('cancelled');
  await client.waitForRun('cancelled');
  await write('resumed', 'cancelled');
}

async function recordKilled({ client, state, stack, write }: Recorder): Promise<void> {
  await client.startRun(spec('killed-workers', long), { runId: 'killed-workers' });
  await untilStep(state, 'killed-workers', 50);
  await Promise.all([stack.kill('gpu'), stack.kill('control')]);
  await Promise.all([stack.waitReady('gpu'), stack.waitReady('control')]);
  await client.waitForRun('killed-workers', { outageMsMax: 60_000 });
  await write('killed-workers', 'killed-workers');
}

async function recordRetraining({ client, temporal, write }: Recorder): Promise<void> {
  await client.schedules.create({ id: 'nightly', spec: spec('retraining') as never, every: '1 days' });
  for (const name of ['retraining-run', 'retraining-skipped'] as const) {
    const before = await lastWorkflowOf(client);
    await client.schedules.trigger('nightly');
    let workflowId = before;
    while (workflowId === before) workflowId = await lastWorkflowOf(client);
    await temporal.workflow.getHandle(workflowId as string).result();
    await write(name, workflowId as string);
  }
}

async function lastWorkflowOf(client: AnnealClient): Promise<string | null> {
  await new Promise((tick) => setTimeout(tick, 200));
  return (await client.schedules.list())[0]?.lastWorkflow ?? null;
}

/** Under a deadline, which is a timer; another budget while it trains begins the activity anew. */
async function recordPaused({ client, state, write }: Recorder): Promise<void> {
  const queue = { team: 'research', priority: 2 };
  await client.startRun(spec('paused', { ...long, queue, budget: { deadline: '1d' } }), { runId: 'paused' });
  await untilStep(state, 'paused', 20);
  await client.pauseRun('paused', { by: 'ann', why: 'the GPU is needed' });
  await until(async () => (await client.describeRun('paused')).status.paused?.isSaving === false);
  await client.resumeRun('paused', { by: 'ann' });
  await untilStep(state, 'paused', 50);
  await client.setBudget('paused', { by: 'ben', budget: { gpuHours: 1 } });
  await client.waitForRun('paused');
  await write('paused', 'paused');
}

async function recordSweep({ client, write }: Recorder): Promise<void> {
  const grid = { 'train.learningRate': [0.001, 0.02] };
  await client.startSweep({ name: 'sweep', spec: spec('sweep') as never, grid, rungs: [0.5] }, { sweepId: 'sweep' });
  let winner: string | null = null;
  for await (const { status } of client.watchSweep('sweep')) winner = status?.winner ?? winner;
  await write('sweep', 'sweep');
  await write('sweep-winner', winner as string);
}

/** The second host is killed; its successor joins the pool, and the gang is granted both anew. */
async function recordTwoHosts(recorder: Recorder): Promise<void> {
  const { client, state, write } = recorder;
  let second = await startSecond(recorder);
  try {
    await client.startRun(spec('two-hosts', { train: { ...longTraining, hosts: 2 } }), { runId: 'two-hosts' });
    await untilStep(state, 'two-hosts', 20);
    second.kill('SIGKILL');
    await once(second, 'exit');
    second = await startSecond(recorder);
    await client.waitForRun('two-hosts');
    for (const name of ['two-hosts', 'two-hosts-gang', POOL.id] as const) await write(name, name);
  } finally {
    second.kill('SIGTERM');
    await once(second, 'exit');
  }
}

/** Used up before the first rung, so that both trials wait. */
async function recordSweepOfBudget({ client, write }: Recorder): Promise<void> {
  const id = 'sweep-of-budget';
  const grid = { 'train.learningRate': [0.001, 0.02] };
  const budget = { gpuHours: 1 / 3600, deadline: '1d' };
  await client.startSweep(
    { name: id, spec: spec(id, { train: longTraining }) as never, grid, rungs: [0.5], budget },
    { sweepId: id },
  );
  await until(async () => Boolean((await client.describeSweep(id)).status?.asks));
  await client.setBudget(id, { by: 'ann', budget: { gpuHours: 1 } });
  let winner: string | null = null;
  for await (const { status } of client.watchSweep(id)) winner = status?.winner ?? winner;
  await write(id, id);
  await write('sweep-of-budget-winner', winner as string);
}

/** A GPU worker of its own name and state; resolves when the pool has it. */
async function startSecond({ stack, folder, temporal }: Recorder): Promise<ChildProcess> {
  const ready = join(folder, 'ready');
  await rm(ready, { force: true });
  const own = { ANNEAL_STATE: join(folder, 'second'), ANNEAL_HOST_NAME: 'second', ANNEAL_READY_FILE: ready };
  const child = spawn(process.execPath, [join(PROJECT_FOLDER, 'src/workers/gpu.ts')], {
    env: { PATH: process.env.PATH, ...stack.environment, ...own },
    stdio: 'ignore',
  });
  await until(async () => existsSync(ready));
  const pool = temporal.workflow.getHandle(POOL.id);
  await until(async () => (await pool.query<PoolState>(POOL.state)).hosts.length === 2);
  return child;
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((tick) => setTimeout(tick, 200));
}
