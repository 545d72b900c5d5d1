// Ranges shared by data workers on a real Temporal server: the dataset is the one that a single process makes, also when a worker dies.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode, DefaultLogger, Worker } from '@temporalio/worker';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkSpec } from '../../src/activities/check-spec.ts';
import { makeDataset } from '../../src/activities/preprocess.ts';
import { TASK_QUEUES, WORKFLOWS } from '../../src/contracts/names.ts';
import { DatasetSchema } from '../../src/contracts/records.ts';
import { parseSpec, type SpecInput } from '../../src/contracts/spec.ts';
import type { RangeInput } from '../../src/contracts/stages.ts';
import type { RunStatus } from '../../src/contracts/status.ts';
import { takeSnapshot } from '../../src/data/snapshot.ts';
import { keys } from '../../src/storage/keys.ts';
import { readJson } from '../../src/storage/record.ts';
import { startServer } from '../cli/pretend-workers.ts';
import { localParts } from '../support/data-parts.ts';

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const INTERCEPTORS = path('../support/short-heartbeats.ts');
const folder = mkdtempSync(join(tmpdir(), 'anneal-ranges-'));
const parts = localParts(folder);
const sources = { examplesFolder: folder, readS3: async () => null };

let env: TestWorkflowEnvironment;
let control: Worker;
let ended: Promise<void>;

beforeAll(async () => {
  const logger = new DefaultLogger('ERROR');
  const [server, workflowBundle] = await Promise.all([
    startServer(),
    bundleWorkflowCode({
      ...{ workflowsPath: path('../../src/workflows/index.ts'), logger },
      workflowInterceptorModules: [INTERCEPTORS],
    }),
  ]);
  env = server;
  control = await Worker.create({
    ...{ connection: env.nativeConnection, taskQueue: TASK_QUEUES.control, activities: { checkSpec }, workflowBundle },
    interceptors: { workflowModules: [INTERCEPTORS] },
  });
  ended = control.run();
  const row = (i: number) => JSON.stringify({ question: `colour of item ${i % 140}?`, answer: `red ${i % 140}` });
  const rows = Array.from({ length: 150 }, (_, i) => row(i));
  writeFileSync(join(folder, 'rows.jsonl'), `${[...rows.slice(0, 70), '{', ...rows.slice(70)].join('\n')}\n`);
}, 60_000);
afterAll(async () => {
  control?.shutdown();
  await ended;
  await env?.teardown();
  rmSync(folder, { recursive: true });
});

interface DataWorker extends AsyncDisposable {
  process: ChildProcess;
  /** Resolves when it has said the line. */
  said(start: string): Promise<void>;
}

function startDataWorker(mode = ''): DataWorker {
  const child = spawn(process.execPath, [path('../support/data-worker.ts'), env.address, folder, mode], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  const listeners = new Set<() => void>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line);
    for (const listener of listeners) listener();
  });
  const exit = new Promise<void>((done) => child.on('exit', () => done()));
  return {
    process: child,
    said: (start) =>
      new Promise((done) => {
        const look = () => void (lines.some((line) => line.startsWith(start)) && done());
        listeners.add(look);
        look();
      }),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await exit;
    },
  };
}

test('two workers, one of which is killed while it holds a range, make the dataset of a single process', {
  timeout: 90_000,
}, async () => {
  const uri = join(folder, 'rows.jsonl');
  const input: SpecInput = {
    name: 'shared',
    model: { base: 'tiny' },
    data: { sources: [{ uri }] },
    until: 'preprocess',
  };
  await using doomed = startDataWorker('hangs');
  await doomed.said('polls');
  const handle = await env.client.workflow.start(WORKFLOWS.fineTune, {
    ...{ taskQueue: TASK_QUEUES.control, workflowId: 'shared-1', args: [input] },
  });
  await doomed.said('cleans range');
  await using _second = startDataWorker();
  doomed.process.kill('SIGKILL');
  const status = (await handle.result()) as RunStatus;

  const preprocess = status.stages.find(({ stage }) => stage === 'preprocess');
  expect(preprocess).toMatchObject({ state: 'done', outcome: expect.stringMatching(/^151 rows in, 140 kept, 10 dup/) });
  const spec = parseSpec(input);
  const snapshot = await takeSnapshot(parts.store, spec, sources, () => undefined);
  const context = {
    signal: new AbortController().signal,
    report: () => undefined,
    progress: () => ({ stage: 'preprocess', phase: '' }) as const,
  };
  const options = { sources, pseudonymKey: null };
  const { dataset } = await makeDataset(parts, options, { run: 'alone', spec, snapshot: snapshot.digest }, context);
  expect(status.data).toEqual(dataset.accounts);
  expect(dataset.files.files.map(({ path }) => path)).toContain('train.jsonl');
  const shared = await readJson(parts.store, keys.dataset(dataset.digest), DatasetSchema);
  expect(shared?.files.files.map(({ path }) => path)).toContain('train-00001-of-00002.safetensors');
  expect({ ...shared, files: null, card: null }).toEqual({ ...dataset, files: null, card: null });

  // Another run of the same input finds it done.
  const again = await env.client.workflow.execute(WORKFLOWS.fineTune, {
    ...{ taskQueue: TASK_QUEUES.control, workflowId: 'shared-2', args: [input] },
  });
  expect((again as RunStatus).data).toEqual(status.data);
  expect(await activitiesOf('shared-2')).toEqual(['check-spec', 'ingest', 'preprocess-plan']);
  expect(await parts.store.list(keys.pins('shared'))).toHaveLength(1);
});

async function activitiesOf(workflowId: string): Promise<unknown[]> {
  const { events } = await env.client.workflow.getHandle(workflowId).fetchHistory();
  return (events ?? []).flatMap((event) => event.activityTaskScheduledEventAttributes?.activityId ?? []);
}

test('a range that fails cancels the others, and its reason is the run’s; so many are under way at once', async () => {
  const [running, cancelled] = [new Set<number>(), new Set<number>()];
  let allRun = () => {};
  const full = new Promise<void>((resolve) => {
    allRun = resolve;
  });
  const worker = await Worker.create({
    ...{ connection: env.nativeConnection, taskQueue: TASK_QUEUES.data, maxHeartbeatThrottleInterval: '50ms' },
    activities: {
      ingest: async () => ({ snapshot: 'a'.repeat(64), contents: [], sizeBytes: 1, outcome: '' }),
      planRanges: async () => ({ preparation: 'p', ranges: 40, done: null, outcome: '' }),
      async cleanRange({ range }: RangeInput) {
        const { cancelled: cancellation, heartbeat } = Context.current();
        const beat = setInterval(heartbeat, 50);
        running.add(range);
        if (running.size === 32) allRun();
        await full;
        if (range === 7) throw ApplicationFailure.nonRetryable('Range 7 has no header.', 'data_rejected');
        await cancellation
          .finally(() => clearInterval(beat))
          .catch((error) => {
            cancelled.add(range);
            throw error;
          });
      },
    },
  });
  const run = env.client.workflow.execute(WORKFLOWS.fineTune, {
    ...{ taskQueue: TASK_QUEUES.control, workflowId: 'failing', args: [{ name: 'failing', until: 'preprocess' }] },
  });
  await worker.runUntil(async () => {
    await expect(run).rejects.toMatchObject({ cause: { message: 'Range 7 has no header.', type: 'data_rejected' } });
  });
  expect(running.size).toBe(32);
  expect(cancelled.size).toBe(31);
});
