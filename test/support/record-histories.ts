// Records anew what `test/workflows/replay.test.ts` replays, from real runs of the tiny model on a stack of its own (about five minutes):
// `node test/support/record-histories.ts`. To be run after a change of a workflow that runs which are under way need not survive.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { type AnnealClient, connect } from '../../src/client/connect.ts';
import type { RunInput } from '../../src/client/runs.ts';
import { readEnvironment } from '../../src/contracts/environment.ts';
import { FREE_PORTS, type Stack, startStack } from '../../src/dev/stack.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import { type HistoryName, type RecordedHistory, rewriteHistory, writeHistory } from './histories.ts';
import { untilStep } from './steps.ts';

const ROWS = 150;

interface Recorder {
  stack: Stack;
  state: string;
  client: AnnealClient;
  temporal: Client;
  write(name: HistoryName, workflowId: string, runId?: string): Promise<void>;
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
const long = { train: { epochs: 12, microBatch: 4, learningRate: 0.02, saveSteps: 20 } };

async function recordAll(recorder: Recorder): Promise<void> {
  await recordEnd(recorder, 'finished', spec('finished'));
  await recordEnd(recorder, 'wrong-spec', { name: 'WRONG', train: { epoch: 2 } });
  await recordEnd(recorder, 'gate-failed', spec('gate-failed', noBetter));
  await recordCancelled(recorder);
  await recordKilled(recorder);
  await recordRetraining(recorder);
}

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

/** Names of this machine and its folders, and what stands for them in the records. */
function neutral(folder: string): (text: string) => string {
  const replacements = [
    [`@${hostname()}`, '@host'],
    [folder, '/anneal'],
    [PROJECT_FOLDER, '/project'],
    [tmpdir(), '/scratch'],
  ] as const;
  return (text) => replacements.reduce((result, [from, to]) => result.replaceAll(from, to), text);
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-histories-'));
  const state = join(folder, 'state');
  const rows = Array.from({ length: ROWS }, (_, i) =>
    JSON.stringify({ question: `item ${i}: which colour?`, answer: ['red', 'green', 'blue'][i % 3] }),
  );
  await writeFile(join(folder, 'rows.jsonl'), `${rows.join('\n')}\n`);
  const stack = await startStack({
    project: PROJECT_FOLDER,
    state,
    ports: FREE_PORTS,
    environment: { ANNEAL_SERVE_BASE: 'tiny', ANNEAL_EXAMPLES: folder },
    onLine: console.log,
  });
  const environment = readEnvironment(stack.environment);
  const client = await connect(environment);
  const connection = await Connection.connect({ address: environment.ANNEAL_TEMPORAL_ADDRESS });
  const temporal = new Client({ connection });
  try {
    const write = async (name: HistoryName, workflowId: string, runId?: string) => {
      const history = await temporal.workflow.getHandle(workflowId, runId).fetchHistory();
      writeHistory(name, rewriteHistory(JSON.parse(historyToJSON(history)) as RecordedHistory, neutral(folder)));
      console.log(`recorded ${name}`);
    };
    await recordAll({ stack, state, client, temporal, write });
  } finally {
    await connection.close();
    await client.close();
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

await main();
