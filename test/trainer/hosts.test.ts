// A training on two hosts, on real servers: two GPU workers with their own names and state folders that share nothing but Temporal and
// the store. Whatever happens to a host, the end is the same bytes as on one.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readEvents } from '../../src/cli/drill/events.ts';
import { type AnnealClient, connect } from '../../src/client/connect.ts';
import { readEnvironment } from '../../src/contracts/environment.ts';
import { type Checkpoint, CheckpointSchema, ClaimSchema } from '../../src/contracts/records.ts';
import type { RunStatus } from '../../src/contracts/status.ts';
import { DEFAULT_PORTS, FREE_PORTS } from '../../src/dev/ports.ts';
import { type Stack, startStack } from '../../src/dev/stack.ts';
import { keys } from '../../src/storage/keys.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { createStoreFromEnvironment } from '../../src/storage/open-store.ts';
import { readReceipts } from '../../src/storage/receipts.ts';
import { readJson } from '../../src/storage/record.ts';
import { openWarmRoot } from '../../src/trainer/warm-state.ts';
import { bareEnvironment } from '../support/anneal.ts';
import { createHoldingPython, type HoldingPython } from '../support/holding-python.ts';
import { asLines, colourRows, stepOf, until, untilStep } from '../support/steps.ts';

const PROJECT = join(import.meta.dirname, '../..');
const RUN_MS_MAX = 300_000;

let folder: string;
let stack: Stack;
let client: AnnealClient;
let store: ObjectStore;
let python: HoldingPython;
let second: ChildProcess;
let secondFolder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-hosts-'));
  python = createHoldingPython(PROJECT, folder);
  stack = await startStack({
    project: PROJECT,
    state: join(folder, 'first'),
    // The gateway takes no part, so its port is never opened.
    ports: { ...FREE_PORTS, gateway: DEFAULT_PORTS.gateway },
    database: 'memory',
    parts: ['temporal', 'store', 'control', 'data', 'gpu'],
    environment: { ANNEAL_HOST_NAME: 'first', ANNEAL_PYTHON: python.executable },
  });
  const environment = readEnvironment(stack.environment);
  client = await connect(environment);
  store = createStoreFromEnvironment(environment);
  second = await startSecond('second');
  await writeFile(join(folder, 'rows.jsonl'), asLines(colourRows(120)));
}, RUN_MS_MAX);

afterAll(async () => {
  await store?.close();
  await client?.close();
  second?.kill('SIGTERM');
  if (second) await once(second, 'exit');
  await stack?.stop();
  for (const state of ['first', 'second', 'another', 'third']) {
    const root = await openWarmRoot('/dev/shm', join(folder, state));
    if (root !== null) await rm(root, { recursive: true, force: true });
  }
  await rm(folder, { recursive: true, force: true });
}, 60_000);

async function startSecond(stateFolder: string): Promise<ChildProcess> {
  const ready = join(folder, 'ready');
  secondFolder = stateFolder;
  await rm(ready, { force: true });
  const own = { ANNEAL_STATE: join(folder, stateFolder), ANNEAL_HOST_NAME: 'second', ANNEAL_READY_FILE: ready };
  const child = spawn(process.execPath, [join(PROJECT, 'src/workers/gpu.ts')], {
    env: { ...bareEnvironment(), ...stack.environment, ...own },
    stdio: 'ignore',
  });
  await until('the second host', async () => existsSync(ready));
  return child;
}

/** No checkpoint is made before the kill, also none of a best step, which the store would then hand out in place of the memory. */
const ONLY_IN_MEMORY = { saveSteps: 1_000, evalSteps: 1_000 };

async function startRun(run: string, hosts: number, how: object = {}): Promise<void> {
  const train = { epochs: 4, microBatch: 4, learningRate: 0.01, lora: { dropout: 0.1 }, threads: 1, saveSteps: 10 };
  await client.startRun(
    {
      name: run,
      model: { base: 'tiny' },
      data: { sources: [{ uri: join(folder, 'rows.jsonl') }] },
      train: { ...train, hosts, processes: 2 / hosts, ...how },
      until: 'train' as const,
    },
    { runId: run },
  );
}

/** The worker of the second host ends as if its host had; another takes its place. */
async function loseSecond(stateFolder = secondFolder): Promise<void> {
  second.kill('SIGKILL');
  await once(second, 'exit');
  second = await startSecond(stateFolder);
}

async function weightsOf(run: string): Promise<string> {
  const ended = await client.waitForRun(run);
  expect(ended.status?.failure ?? null).toBeNull();
  return ended.status?.training?.weightsSha256 as string;
}

/** Largest number of steps between two states in memory: of a step this short not each can be kept at a bearable cost. */
const warmInterval = (run: string) =>
  Math.max(1, ...readEvents(join(folder, 'first'), run).map(({ everySteps }) => everySteps ?? 1));
const claimOf = async (run: string, n: number) =>
  (await readJson(store, keys.claim(run, n), ClaimSchema))?.gang ?? null;
const poolIsFree = () => until('free hosts', async () => (await client.pool.describe()).grants.length === 0);

describe('a training on two hosts', () => {
  let alone: string;
  /** It waits near its end for what is done to it. */
  const startHeld = async (run: string) => {
    const { training } = (await client.describeRun('alone')).status;
    python.hold((training?.step as number) - 1);
    await startRun(run, 2);
    await untilStep(join(folder, 'first'), run, 10);
  };

  test('survives the death of a host: the gang ends, is granted anew, and ends at the bytes of one host with as many ranks', {
    timeout: RUN_MS_MAX,
  }, async () => {
    await startRun('alone', 1);
    alone = await weightsOf('alone');
    await startRun('killed', 2, ONLY_IN_MEMORY);
    await untilStep(join(folder, 'first'), 'killed', 10);
    expect(await claimOf('killed', 1)).toMatchObject({ hosts: ['first', 'second'], source: null });
    await loseSecond();
    expect(await weightsOf('killed')).toBe(alone);
    const receipts = await readReceipts(store, 'killed');
    expect(receipts.map(({ kind, action, exact }) => [kind, action, exact])).toEqual([
      ['node_lost', 'taken_over', true],
    ]);
    // Both hosts still had the state of the same step in memory.
    expect(await claimOf('killed', 2)).toMatchObject({ hosts: ['first', 'second'], source: 'warm' });
    expect(receipts[0]?.lostSteps).toBeLessThanOrEqual(2 * warmInterval('killed'));
    expect((await poolIsFree()) && (await client.pool.describe()).hosts.map(({ name }) => name).sort()).toEqual([
      'first',
      'second',
    ]);
  });

  test('an operator who pauses one host’s part pauses all; unpaused the gang goes on at the same bytes', {
    timeout: RUN_MS_MAX,
  }, async () => {
    await startHeld('held');
    const connection = await Connection.connect({ address: stack.environment.ANNEAL_TEMPORAL_ADDRESS ?? '' });
    const workflowId = 'held-gang';
    const pending = async () => (await client.describeRun('held')).pending;
    const about = { namespace: 'default', execution: { workflowId }, id: 'train-1-1' };
    await connection.workflowService.pauseActivity({ ...about, identity: 'ann', reason: 'look' });
    await until('the first host’s end', async () => (await pending()).map(({ state }) => state).join() === 'paused');
    const reached = stepOf(join(folder, 'first'), 'held');
    expect((await client.describeRun('held')).note).toContain('was paused by an operator');
    python.release();
    await connection.workflowService.unpauseActivity(about);
    await connection.close();
    expect(await weightsOf('held')).toBe(alone);
    expect((await readJson(store, keys.claim('held', 2), ClaimSchema))?.resumeFrom).toEqual({
      claim: 1,
      step: reached,
    });
  });

  test('cancelled: saves, commits and frees the hosts; started again it loses no step', {
    timeout: RUN_MS_MAX,
  }, async () => {
    await startHeld('cancelled');
    await client.cancelRun('cancelled');
    expect((await client.waitForRun('cancelled')).status?.failure?.kind).toBe('cancelled');
    await poolIsFree();
    const reached = stepOf(join(folder, 'first'), 'cancelled');
    python.release();
    await startRun('cancelled', 2);
    expect(await weightsOf('cancelled')).toBe(alone);
    expect((await readJson(store, keys.claim('cancelled', 2), ClaimSchema))?.resumeFrom).toEqual({
      claim: 1,
      step: reached,
    });
  });
});

describe('a training in parts on two hosts', () => {
  const parts = (strategy: string) => ({
    ...{ strategy, tuning: 'full', learningRate: 0.001, epochs: 5 },
    // A state of a whole model and its optimizer is large, so only those save whose saves are looked at.
    ...ONLY_IN_MEMORY,
  });
  const newestOf = async (run: string, claim: number) => {
    const key = (await store.list(keys.checkpoints(run, claim))).at(-1);
    return key === undefined ? null : await readJson(store, key, CheckpointSchema);
  };
  const claimsOf = async (run: string) => {
    const numbers = (await store.list(keys.claims(run))).filter((key) => /claims\/\d+\.json$/.test(key)).length;
    return await Promise.all(
      Array.from({ length: numbers }, (_, i) => readJson(store, keys.claim(run, i + 1), ClaimSchema)),
    );
  };
  const alone = new Map<string, TrainResult>();
  type TrainResult = NonNullable<RunStatus['training']>;
  const trainingOf = async (run: string) => {
    await weightsOf(run);
    return (await client.describeRun(run)).status.training as TrainResult;
  };
  const ofClaim = async (run: string, claim: number) => await until(`claim ${claim}`, () => claimIn(run, claim));
  const claimIn = (run: string, claim: number) => readJson(store, keys.claim(run, claim), ClaimSchema);

  const WAYS = {
    ddp: parts('ddp'),
    fsdp: parts('fsdp'),
    zero2: { ...parts('deepspeed'), deepspeed: 'zero2' },
  };
  type Way = keyof typeof WAYS;

  test.each([
    ['fsdp', 'warm'],
    ['zero2', 'store'],
  ] as [Way, 'warm' | 'store'][])(
    '%s survives the death of a host, each going on from its part (%s), and a move of both ranks to one host',
    { timeout: 2 * RUN_MS_MAX },
    async (way, source) => {
      await startRun(`${way}-alone`, 1, WAYS[way]);
      alone.set(way, await trainingOf(`${way}-alone`));
      const run = `${way}-parts`;
      await startRun(run, 2, { ...WAYS[way], ...(source === 'store' && { saveSteps: 8 }) });
      await untilStep(join(folder, 'first'), run, 8);
      const hasCommit = async () => source === 'warm' || (await newestOf(run, 1)) !== null;
      await until('a commit', hasCommit);
      // In another folder the host that takes its place has nothing of the run.
      await loseSecond(source === 'warm' ? secondFolder : 'another');
      expect((await ofClaim(run, 2)).gang).toMatchObject({ source });
      const from = (await ofClaim(run, 2)).resumeFrom?.step ?? 0;
      await until('steps of the second claim', async () => {
        const { claim = 0, step = 0 } = (await client.describeRun(run)).progress ?? {};
        return claim === 2 && step > from + 1;
      });
      await client.resumeRun(run, { by: 'ann', hosts: 1, processes: 2 });
      expect((await trainingOf(run)).weightsSha256).toBe(alone.get(way)?.weightsSha256);
      const { gang, changes, resumeFrom } = await ofClaim(run, 3);
      expect([gang, resumeFrom]).toEqual([null, { claim: 2, step: changes[0]?.atStep }]);
      expect(changes).toMatchObject([{ hosts: 1, processes: 2 }]);
      const { status } = await client.describeRun(run);
      expect(status.stages[2]?.outcome).toMatch(/on 1 host with 2 ranks from step \d+ on, still bit-exact/);
      const saved = await newestOf(run, 2);
      expect(saved?.files.files.map(({ path }) => path)).toEqual([
        ...['manifest.json', 'rank-0.safetensors', 'rank-1.safetensors', 'state.json'],
      ]);
      expect(await store.list(keys.allShares(run))).toEqual([]);
    },
  );

  test.each(['ddp', 'fsdp', 'zero2'] as Way[])(
    '%s goes on with one host of two and with both again; the run says that it is no longer bit-exact',
    { timeout: 2 * RUN_MS_MAX },
    async (way) => {
      const run = `${way}-fewer`;
      await startRun(run, 2, WAYS[way]);
      await untilStep(join(folder, 'first'), run, 6);
      await client.pauseRun(run, { by: 'ann', why: 'a host is needed' });
      await until('the pause', async () => (await client.describeRun(run)).state === 'paused');
      await client.resumeRun(run, { by: 'ann', hosts: 1 });
      const [few] = (await ofClaim(run, 2)).changes;
      await until(
        'a few steps',
        async () => ((await client.describeRun(run)).progress?.step ?? 0) > (few?.atStep ?? 0) + 2,
      );
      await client.resumeRun(run, { by: 'ann', hosts: 2 });
      const { step, loss } = await trainingOf(run);
      const { gang, changes } = await ofClaim(run, 3);
      expect(gang?.source).toBe('store');
      expect(changes.map(({ hosts = 2, accumulation }) => [hosts, accumulation])).toEqual([
        [1, 2],
        [2, 1],
      ]);
      const expected = alone.get(way);
      if (expected !== undefined) {
        expect(step).toBe(expected.step);
        expect(Math.abs(loss - expected.loss)).toBeLessThan(1e-2);
      }
      const { stages, decisions } = (await client.describeRun(run)).status;
      expect(stages[2]?.outcome).toContain('not bit-exact');
      expect(decisions?.map(({ what }) => what)).toContain('goes on with 1 host with 1 rank, no longer bit-exact');
    },
  );

  test('at its limit, all parts are committed before it waits; a part that lost a bit in the store costs steps, not the run', {
    timeout: 2 * RUN_MS_MAX,
  }, async () => {
    await startRun('parts-poor', 2, { ...WAYS.fsdp, saveSteps: 10 });
    await untilStep(join(folder, 'first'), 'parts-poor', 12);
    await until('a commit to fall back to', () => newestOf('parts-poor', 1));
    // Some seconds of both ranks: it ends while it loads or trains again, as this machine will have it.
    const used = (await client.describeRun('parts-poor')).progress?.gpuSeconds ?? 0;
    await client.setBudget('parts-poor', { budget: { gpuHours: (used + 4) / 3600 } });
    const paused = await until('the limit', async () => (await client.describeRun('parts-poor')).status?.paused);
    expect(paused.kind).toBe('budget_reached');
    await poolIsFree();
    const reached = stepOf(join(folder, 'first'), 'parts-poor');
    const saved = (await Promise.all([1, 2].map((claim) => newestOf('parts-poor', claim)))).filter(
      (its) => its !== null,
    );
    const newest = saved.at(-1) as Checkpoint;
    expect([newest.step, paused.step]).toEqual([reached, reached]);
    const part = newest.files.files.find(({ path }) => path === 'rank-1.safetensors')?.parts[0] as string;
    const key = keys.part('parts-poor', newest.claim, part);
    const bytes = Buffer.from((await store.get(key)) as Uint8Array);
    bytes.writeUInt8(bytes.readUInt8(1000) ^ 1, 1000);
    await store.put(key, bytes);
    // Its own part is not on this host's disk.
    await loseSecond('third');
    await client.setBudget('parts-poor', { budget: { gpuHours: 1 } });
    expect(await weightsOf('parts-poor')).toBe(alone.get('fsdp')?.weightsSha256);
    const from = (await claimsOf('parts-poor')).map((claim) => claim?.resumeFrom ?? null);
    expect(from).toContainEqual({ claim: newest.claim, step: reached });
    expect(from.at(-1)?.step).toBeLessThan(reached);
    const receipts = await readReceipts(store, 'parts-poor');
    // The new budget began it anew, which counts where the limit came after the next claim.
    const kinds = receipts.map(({ kind }) => kind);
    expect(kinds[0] === 'preempted' ? kinds.slice(1) : kinds).toEqual(['checkpoint_corrupt']);
    expect(receipts.every(({ exact }) => exact)).toBe(true);
  });
});
