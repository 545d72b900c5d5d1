// The pool and gangs of several hosts as workflows on a real server: joining and leaving, grants, broken gangs, ended holders. The hosts
// only pretend to train; what they say and when is each test's script.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Context } from '@temporalio/activity';
import type { WorkflowHandle } from '@temporalio/client';
import { CancelledFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker, type WorkflowBundle } from '@temporalio/worker';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { refuseAgain } from '../../src/activities/gang-member.ts';
import { findEnded, judgeDeaths, tellPool } from '../../src/activities/pool.ts';
import { type AnnealClient, connect } from '../../src/client/connect.ts';
import type { HostOffer, MemberInput, MemberOutcome } from '../../src/contracts/gang.ts';
import { hostQueue, POOL, TASK_QUEUES, WORKFLOWS } from '../../src/contracts/names.ts';
import type { DecideInput, PoolState } from '../../src/contracts/pool.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import type { TrainInput, TrainResultSummary } from '../../src/contracts/stages.ts';
import { createLog } from '../../src/telemetry/log.ts';
import { createPoolMember, type PoolMember } from '../../src/workers/pool-member.ts';
import { decideGrants } from '../../src/workflows/policies/grants.ts';
import { bundle, startServer } from '../cli/pretend-workers.ts';
import { createAnneal, lastObject } from '../support/anneal.ts';

const RESULT = { record: 'r', outcome: 'done', weightsSha256: 'w' } as TrainResultSummary;
/** Events after which the server suggests that a workflow continues as new, so that the pool does so in the middle of the tests. */
const FEW_EVENTS = ['limit.historyCount.suggestContinueAsNew=60'];

type Script = (input: MemberInput) => Promise<MemberOutcome>;

let env: TestWorkflowEnvironment;
let client: AnnealClient;
let control: { stop(): Promise<void> };
let code: WorkflowBundle;
const hosts = new Map<string, { member: PoolMember; stop(): Promise<void> }>();
const scripts = new Map<string, Script>();
const trained: string[] = [];

beforeAll(async () => {
  [env, code] = await Promise.all([startServer(FEW_EVENTS), bundle()]);
  const settings = { ANNEAL_TEMPORAL_ADDRESS: env.address, ANNEAL_TEMPORAL_NAMESPACE: 'default' };
  client = await connect({ ...settings, ANNEAL_WEB_UI: 'http://127.0.0.1:8233' });
  control = run(
    await Worker.create({
      connection: env.nativeConnection,
      taskQueue: TASK_QUEUES.control,
      workflowBundle: code,
      activities: { tellPool, findEnded, judgeDeaths, decideHosts: async (input: DecideInput) => decideGrants(input) },
    }),
  );
  // While a lost host comes back nothing is refused, however slow this machine is.
  await startPool({ impossibleMs: 600_000 });
});
afterEach(async () => {
  await Promise.all([...hosts.keys()].map(stopHost));
  await untilPool(({ hosts: left, grants }) => left.length === 0 && grants.length === 0);
  trained.length = 0;
});
afterAll(async () => {
  await client?.close();
  await control?.stop();
  await env?.teardown();
});

async function startPool({ impossibleMs }: { impossibleMs: number }): Promise<void> {
  await env.client.workflow.start(WORKFLOWS.gpuPool, {
    workflowId: POOL.id,
    taskQueue: TASK_QUEUES.control,
    args: [{ limits: { impossibleMs, keepMs: 500, lookMs: 500 } }],
  });
}

function run(worker: Worker): { stop(): Promise<void> } {
  const running = worker.run();
  return {
    async stop() {
      worker.shutdown();
      await running;
    },
  };
}

async function startHost(name: string): Promise<void> {
  const member = createPoolMember(env.client, { name, device: 'cpu', slots: 2, labels: '' }, createLog('gpu', 'error'));
  const worker = await Worker.create({
    connection: env.nativeConnection,
    taskQueue: hostQueue(name),
    maxHeartbeatThrottleInterval: '100ms',
    activities: { ...member.activities, offerState: () => offerOf(member.isBusy()), trainMember },
  });
  const running = run(worker);
  hosts.set(name, {
    member,
    async stop() {
      member.close();
      await running.stop();
    },
  });
}

async function stopHost(name: string): Promise<void> {
  const host = hosts.get(name);
  hosts.delete(name);
  await host?.stop();
}

function offerOf(isBusy: boolean): HostOffer {
  return { address: '127.0.0.1', port: 1, interface: 'lo', warm: [], done: null, isBusy };
}

async function trainMember(input: MemberInput): Promise<MemberOutcome> {
  refuseAgain();
  trained.push(`${input.run} ${input.seat.host} ${input.seat.hosts[input.seat.host]}`);
  return await (scripts.get(input.run) as Script)(input);
}

/** Ranks meet before they train: who dies at once does so with all hosts of the attempt begun. */
async function untilMet({ run, seat }: MemberInput): Promise<void> {
  const begun = () => trained.filter((one) => one.startsWith(`${run} `)).length % seat.hosts.length === 0;
  await vi.waitUntil(begun, { timeout: 30_000 });
}

/** As a trainer does that is told to stop. */
async function untilCancelled(): Promise<MemberOutcome> {
  const { heartbeat, cancelled } = Context.current();
  const heart = setInterval(() => heartbeat({ stage: 'train', phase: 'train', step: 5 }), 50);
  try {
    return await cancelled;
  } catch {
    throw new CancelledFailure('CANCELLED', [{ step: 9, gpuSeconds: 3 }]);
  } finally {
    clearInterval(heart);
  }
}

const finish: Script = async () => ({ ended: 'done', result: RESULT });
const DEATH = {
  ...{ class: 'crashed', kind: 'trainer_crashed', fingerprint: 'f', message: 'It broke.' },
  ...{ highest: 5, from: 0, stepped: true },
};
const die = (message: string, isCascade = false, highest = 5): MemberOutcome => ({
  ...{ ended: 'died', isCascade, microBatch: 4, gpuSeconds: null },
  death: { ...DEATH, fingerprint: message, message, highest },
});
/** As an activity does that is paused: it ends with the SDK's own reason. */
async function untilHeld(): Promise<never> {
  const { heartbeat, cancelled } = Context.current();
  const heart = setInterval(() => heartbeat({ stage: 'train', phase: 'train' }), 50);
  return await cancelled.finally(() => clearInterval(heart));
}

async function startGang(name: string, wanted: number, team?: string): Promise<WorkflowHandle> {
  const train = { hosts: wanted, processes: 1 };
  const spec = parseSpec({ name, data: { sources: [{ uri: 'example:x' }] }, train, queue: team ? { team } : {} });
  const input: TrainInput = { run: name, spec, dataset: 'd' };
  return await env.client.workflow.start(WORKFLOWS.trainingGang, {
    workflowId: `${name}-gang`,
    taskQueue: TASK_QUEUES.control,
    args: [input],
  });
}

async function untilPool(wanted: (state: PoolState) => boolean): Promise<PoolState> {
  const look = async () => {
    const state = await client.pool.describe();
    return wanted(state) ? state : null;
  };
  return (await vi.waitUntil(look, { timeout: 20_000, interval: 50 })) as PoolState;
}

const startHosts = async (...names: string[]) => {
  await Promise.all(names.map(startHost));
  await untilPool((state) => names.every((name) => state.hosts.some((host) => host.name === name)));
};

describe('gangs of several hosts', () => {
  test('hosts join by themselves and leave with their workers; a gang gets all of its hosts and gives them back', async () => {
    await startHosts('a', 'b');
    scripts.set('simple', finish);
    expect(await (await startGang('simple', 2)).result()).toEqual(RESULT);
    expect([...trained].sort()).toEqual(['simple 0 a', 'simple 1 b']);
    expect((await untilPool(({ grants }) => grants.length === 0)).hosts).toHaveLength(2);
    await stopHost('b');
    await untilPool(({ hosts: left }) => left.map(({ name }) => name).join() === 'a');
  });

  test('the first host that ends early ends all, and the gang begins anew with its hosts in their places', async () => {
    await startHosts('a', 'b');
    scripts.set('broken', async (input) => {
      const { seat } = input;
      if (seat.host === 1) await untilMet(input);
      if (seat.before !== null) return finish({} as MemberInput);
      return seat.host === 1 ? die('Segmentation fault.') : await untilCancelled();
    });
    expect(await (await startGang('broken', 2)).result()).toEqual(RESULT);
    expect(trained.slice(2).sort()).toEqual(['broken 0 a', 'broken 1 b']);
  });

  test('three hosts, one preempted: another takes its place, and the two that live keep theirs', async () => {
    await startHosts('a', 'b', 'c');
    scripts.set('three', async ({ seat }) =>
      seat.before === null ? await untilCancelled() : finish({} as MemberInput),
    );
    const gang = await startGang('three', 3);
    await vi.waitUntil(() => trained.length === 3, { timeout: 30_000 });
    await startHosts('d');
    await stopHost('b');
    expect(await gang.result()).toEqual(RESULT);
    expect(trained.slice(3).sort()).toEqual(['three 0 a', 'three 1 d', 'three 2 c']);
  });

  test('a host that works for the shared queue is waited for, and after a while takes no new training from it', async () => {
    await startHosts('a', 'b');
    scripts.set('patient', finish);
    const [a, b] = ['a', 'b'].map((name) => hosts.get(name)?.member as PoolMember);
    let finishOther: () => void = () => undefined;
    const other = b?.whileAway(() => new Promise<void>((resolve) => (finishOther = resolve)));
    await untilPool((state) => state.hosts.some(({ name, isAway }) => name === 'b' && isAway === true));
    const gang = await startGang('patient', 2);
    const { waiting } = await untilPool((state) => state.kept?.a === 'patient');
    expect(waiting[0]).toMatchObject({ impossibleSinceMs: null, why: 'It waits for 2 hosts to be free at once.' });
    await expect(a?.requireUnkept()).rejects.toThrow('Host a is kept for the gang of run patient, which waits');
    finishOther();
    await other;
    expect(await gang.result()).toEqual(RESULT);
    await untilPool((state) => state.kept?.a === undefined);
    await a?.requireUnkept();
  });

  test('each attempt has a later epoch, and is told how the one before ended', async () => {
    await startHosts('a', 'b');
    const seen: [number, MemberInput['seat']['before']][] = [];
    scripts.set('epochs', async (input) => {
      const { seat } = input;
      if (seat.host === 0) seen.push([seat.epoch, seat.before]);
      await untilMet(input);
      return seen.length === 3 ? finish({} as MemberInput) : die('It broke.', false, seen.length);
    });
    await (await startGang('epochs', 2)).result();
    const epochs = seen.map(([epoch]) => epoch);
    expect(epochs).toEqual([...new Set(epochs)].sort((x, y) => x - y));
    expect(seen.map(([, before]) => before?.step ?? null)).toEqual([null, 1, 2]);
  });

  test('a failure that comes back without progress ends it with one sentence', async () => {
    await startHosts('a', 'b');
    scripts.set('hopeless', async () => die('Illegal instruction.'));
    const error = await (await startGang('hopeless', 2)).result().catch((reason: unknown) => reason);
    expect(String((error as Error).cause)).toMatch(/without a step beyond 5: Illegal instruction\./);
    expect(trained.length).toBeLessThanOrEqual(6);
  });

  test('GPU time of an attempt counts by what its hosts told, also where the first one told nothing', async () => {
    await startHosts('a', 'b');
    const known: (number | undefined)[] = [];
    scripts.set('counted', async (input) => {
      const { seat, gpuSecondsBefore } = input;
      await untilMet(input);
      if (seat.before !== null) known.push(gpuSecondsBefore);
      if (seat.before !== null) return finish({} as MemberInput);
      return { ...die('It broke.', seat.host === 1), gpuSeconds: seat.host === 0 ? null : 11 } as MemberOutcome;
    });
    await (await startGang('counted', 2)).result();
    expect(known).toContain(11);
  });

  test.each(['unpause', 'reset'] as const)('an operator who pauses one host stops all; %s goes on', async (how) => {
    await startHosts('a', 'b');
    const name = `held-${how}`;
    let isHeld = false;
    scripts.set(name, async ({ seat }) => {
      if (seat.before !== null) return finish({} as MemberInput);
      if (seat.host === 1) return await untilHeld();
      // Its ranks are asked to end by those of the other host, which is paused.
      await vi.waitUntil(() => isHeld, { timeout: 30_000 });
      return { ...die('It was asked to end.', true), death: { ...DEATH, class: 'killed' } } as MemberOutcome;
    });
    const gang = await startGang(name, 2);
    const pending = async () => (await gang.describe()).raw.pendingActivities ?? [];
    const first = async () => (await pending()).find(({ activityId }) => activityId === 'train-1-1');
    await vi.waitUntil(async () => (await first())?.lastHeartbeatTime, { timeout: 30_000 });
    const { workflowService } = env.client;
    const about = { namespace: 'default', execution: { workflowId: gang.workflowId }, id: 'train-1-1' };
    await workflowService.pauseActivity({ ...about, identity: 'ann', reason: 'look' });
    // Paused and not running any more.
    await vi.waitUntil(async () => (await first())?.attempt === 2, { timeout: 30_000 });
    isHeld = true;
    await vi.waitUntil(async () => (await pending()).length === 1, { timeout: 30_000 });
    expect(trained).toHaveLength(2);
    if (how === 'reset') await workflowService.resetActivity(about);
    else await workflowService.unpauseActivity(about);
    expect(await gang.result()).toEqual(RESULT);
    expect(trained).toHaveLength(4);
  });

  test('a cancelled gang is waited for, and its hosts are free', async () => {
    await startHosts('a', 'b');
    scripts.set('cancelled', untilCancelled);
    const gang = await startGang('cancelled', 2);
    await vi.waitUntil(() => trained.length === 2, { timeout: 30_000 });
    await gang.cancel();
    expect(await gang.result()).toEqual({ stopped: { step: 9, gpuSeconds: 3 } });
    await untilPool(({ grants }) => grants.length === 0);
  });

  test('a gang that is terminated loses its hosts to the next one', async () => {
    await startHosts('a', 'b');
    scripts.set('terminated', untilCancelled);
    scripts.set('next', finish);
    const gang = await startGang('terminated', 2);
    await vi.waitUntil(() => trained.length === 2, { timeout: 30_000 });
    const next = await startGang('next', 2);
    await untilPool(({ waiting }) => waiting.length === 1);
    await gang.terminate();
    expect(await next.result()).toEqual(RESULT);
  });

  test('a host that does not answer is lost within seconds; registered again it takes its place', async () => {
    await startHosts('a', 'b');
    let forget: () => void = () => undefined;
    const forgotten = new Promise<void>((resolve) => {
      forget = resolve;
    });
    scripts.set('killed', async ({ seat }) => {
      if (seat.before !== null) forget();
      if (seat.before !== null) return finish({} as MemberInput);
      // As seen from the first host: its peer is gone, and nobody speaks for it.
      if (seat.host === 0) return die('Connection closed by peer.', true);
      await forgotten;
      return die('Nobody hears this.');
    });
    const result = (await startGang('killed', 2)).result();
    await vi.waitUntil(() => trained.length === 2, { timeout: 30_000 });
    expect(await result).toEqual(RESULT);
    expect(trained).toHaveLength(4);
  }, 60_000);

  test('teams keep to their quotas, and a raised quota lets a waiting gang go', async () => {
    await startHosts('a', 'b', 'c');
    scripts.set('one', untilCancelled);
    scripts.set('two', finish);
    await client.pool.setQuota({ team: 'x', gpus: 2 });
    const one = await startGang('one', 2, 'x');
    await vi.waitUntil(() => trained.length === 2, { timeout: 30_000 });
    const two = await startGang('two', 1, 'x');
    // Decided, too, not only there.
    const { waiting } = await untilPool(({ waiting: [first] }) => (first?.why ?? '') !== '');
    expect(waiting[0]?.why).toBe('Team x holds 2 of its 2 GPUs.');
    const anneal = createAnneal({ cwd: tmpdir(), env: { ANNEAL_TEMPORAL_ADDRESS: env.address } });
    expect((await anneal(['pool'])).stdout).toContain('Team x holds 2 of its 2 GPUs.');
    expect(lastObject(await anneal(['pool', 'quota', 'x', '3', '--json']))).toEqual({ quotas: { x: 3 } });
    expect((await anneal(['pool', 'quota', 'x', 'many'])).code).toBe(2);
    expect(await two.result()).toEqual(RESULT);
    await one.cancel();
    expect(await client.pool.setQuota({ team: 'x', gpus: null })).toMatchObject({ quotas: {} });
    await expect(client.pool.setQuota({ team: '', gpus: 1 })).rejects.toThrow();
  });

  test('the pool has continued as new meanwhile, and nobody noticed', async () => {
    const first = await env.client.workflow.getHandle(POOL.id).describe();
    const { events } = await env.client.workflow.getHandle(POOL.id, first.runId).fetchHistory();
    expect(events?.[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId).toBeTruthy();
  });

  test('one that the pool is too small for is refused after a bounded time', async () => {
    await env.client.workflow.getHandle(POOL.id).terminate();
    await startPool({ impossibleMs: 500 });
    await startHosts('a');
    const error = await (await startGang('big', 3)).result().catch((reason: unknown) => reason);
    expect(String((error as Error).cause)).toContain('Run big needs 3 hosts with 1 GPU each, and the pool has 1');
    const folder = mkdtempSync(join(tmpdir(), 'anneal-gangs-'));
    writeFileSync(join(folder, 'rows.jsonl'), '{"prompt":"a","completion":"b"}\n'.repeat(3));
    const data = { sources: [{ uri: 'rows.jsonl' }] };
    const train = { hosts: 3, device: 'cpu' };
    writeFileSync(join(folder, 'big.json'), JSON.stringify({ name: 'big', model: { base: 'tiny' }, data, train }));
    const anneal = createAnneal({ cwd: folder, env: { ANNEAL_TEMPORAL_ADDRESS: env.address } });
    const plan = await anneal(['plan', 'big.json']);
    rmSync(folder, { recursive: true, force: true });
    expect(plan.stdout.replace(/\s+/g, ' ')).toContain(
      'train.hosts: Run big needs 3 hosts with 1 GPU each, and the pool has 1',
    );
  });
});
