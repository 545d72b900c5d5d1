// What a user does by the command line, on a stack that the command line has started: odd files, bad input, runs, schedules, a killed supervisor.
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand, PutBucketPolicyCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readEvents } from '../../src/cli/drill/events.ts';
import type { RunSummary } from '../../src/client/runs.ts';
import type { ScheduleSummary } from '../../src/client/schedules.ts';
import { readEnvironment } from '../../src/contracts/environment.ts';
import type { Version } from '../../src/contracts/records.ts';
import type { RetrainingResult, RunStatus } from '../../src/contracts/status.ts';
import type { TrainResult } from '../../src/contracts/trainer-protocol.ts';
import { choosePorts, FREE_PORTS } from '../../src/dev/ports.ts';
import { readRunningStack, type StackFile } from '../../src/dev/stack-file.ts';
import { TENSORBOARD_FILE } from '../../src/registry/tensorboard.ts';
import { keys } from '../../src/storage/keys.ts';
import { createStoreFromEnvironment } from '../../src/storage/open-store.ts';
import { s3AccessOf } from '../../src/storage/s3-access.ts';
import { createS3Client } from '../../src/storage/s3-store.ts';
import { isAlive, waitUntilGone } from '../../src/trainer/process-identity.ts';
import { type Anneal, createAnneal, type Ended, lastObject } from '../support/anneal.ts';
import { badInputs, writeBadInput } from '../support/bad-inputs.ts';
import { LENGTH_MAX, writeOddFiles } from '../support/odd-files.ts';
import { canMount, mountSmallDisk } from '../support/small-disk.ts';
import { stepOf, untilStep } from '../support/steps.ts';

/** The slowest test starts a stack and trains; several times its time on two idle cores, ms. */
const TEST_MS_MAX = 240_000;
/** A file system that any working folder of a stage fills, kB. */
const SMALL_KB = 16;

let folder: string;
let state: string;
let portFlags: string[];
let anneal: Anneal;
let stack: StackFile;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-user-'));
  state = join(folder, 'state');
  anneal = createAnneal({ cwd: folder, env: { ANNEAL_STATE: state, ANNEAL_SERVE_BASE: 'tiny' } });
  const ports = await choosePorts(FREE_PORTS, ['temporal', 'webUi', 'store', 'gateway']);
  portFlags = [
    ...['--temporal-port', String(ports.temporal), '--web-ui-port', String(ports.webUi)],
    ...['--store-port', String(ports.store), '--gateway-port', String(ports.gateway)],
  ];
  stack = await up();
}, TEST_MS_MAX);

afterAll(async () => {
  await anneal(['down']);
  rmSync(folder, { recursive: true, force: true });
}, TEST_MS_MAX);

async function up(): Promise<StackFile> {
  const { code, stdout, stderr } = await anneal(['up', '--detach', '--json', ...portFlags]);
  expect(stderr, stdout).toContain('gateway ready in');
  expect(code).toBe(0);
  return readRunningStack(state) as StackFile;
}

function writeSpec(name: string, spec: object): string {
  const path = join(folder, `${name}.json`);
  writeFileSync(path, JSON.stringify({ name, model: { base: 'tiny' }, ...spec }));
  return path;
}

function writeRows(name: string, count: number): void {
  const rows = Array.from({ length: count }, (_, i) =>
    JSON.stringify({ question: `item ${i}: which colour?`, answer: ['red', 'green', 'blue'][i % 3] }),
  );
  writeFileSync(join(folder, name), rows.join('\n'));
}

/** Passes its gate by the loss. */
const trainable = (uri: string) => ({
  data: { sources: [{ uri }] },
  train: { maxSteps: 30, microBatch: 4, learningRate: 0.02 },
  evaluate: { match: 'none', rows: 12 },
});

async function withStore<T>(use: (list: (prefix: string) => Promise<string[]>) => Promise<T>): Promise<T> {
  const store = createStoreFromEnvironment(readEnvironment(stack.environment));
  try {
    return await use((prefix) => store.list(prefix));
  } finally {
    await store.close();
  }
}

/** A bucket with one object that nobody may read. */
async function lockBucket(bucket: string, key: string): Promise<void> {
  const client = createS3Client(s3AccessOf(readEnvironment(stack.environment)));
  const deny = { Effect: 'Deny', Principal: '*', Action: 's3:GetObject', Resource: `arn:aws:s3:::${bucket}/*` };
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: '{}' }));
  await client.send(
    new PutBucketPolicyCommand({
      Bucket: bucket,
      Policy: JSON.stringify({ Version: '2012-10-17', Statement: [deny] }),
    }),
  );
  client.destroy();
}

async function resultOfWorkflow<T>(workflowId: string): Promise<T> {
  const connection = await Connection.connect({ address: stack.environment.ANNEAL_TEMPORAL_ADDRESS });
  try {
    return (await new Client({ connection }).workflow.getHandle(workflowId).result()) as T;
  } finally {
    await connection.close();
  }
}

const read = async <T>(...args: string[]): Promise<T> => JSON.parse((await anneal([...args, '--json'])).stdout) as T;

test('files in every shape and format, with everything odd in them, are accounted for to the row', {
  timeout: TEST_MS_MAX,
}, async () => {
  const { names, books, total } = writeOddFiles(folder);
  const sources = names.map((uri) => ({ uri }));
  const spec = writeSpec('odd', {
    data: { sources, maxLength: LENGTH_MAX, gates: { maxQuarantined: 1 } },
    until: 'preprocess',
  });
  const ended = await anneal(['run', spec, '--wait', '--json']);
  const result = lastObject(ended);
  expect(result).toMatchObject({ status: 'completed', data: total });
  expect(ended.code).toBe(0);
  const { status } = await read<{ status: RunStatus }>('status', result.run as string);
  expect(status.data?.bySource.map(({ uri: _uri, ...book }) => book)).toEqual(books);
});

describe('bad input', () => {
  test('a wrong spec is refused with every problem and its path, before anything is started', async () => {
    const spec = writeSpec('wrong', {
      name: 'No Name',
      data: { sources: [{ uri: 'gone.csv' }, { uri: 'nowhere/*.csv' }], split: { test: 0.9 } },
      train: { epoch: 2, learningRate: 'fast' },
    });
    const ended = await anneal(['run', spec, '--wait', '--json']);
    expect(ended.code).toBe(2);
    const { error } = lastObject(ended) as { error: { problems: { path: string; message: string }[] } };
    expect(Object.fromEntries(error.problems.map(({ path, message }) => [path, message]))).toEqual({
      'data.sources[0].uri': expect.stringContaining('gone.csv, which does not exist'),
      'data.sources[1].uri': expect.stringMatching(/looks for files in the folder \S+nowhere\/, which does not exist/),
      name: expect.stringMatching(/must be 1 to 63 lower-case letters.*got "No Name"/),
      'data.split.test': expect.stringContaining('got 0.9'),
      'train.epoch': 'is not a field; did you mean `epochs`?',
      'train.learningRate': expect.stringContaining('got "fast"'),
    });
    const forPeople = await anneal(['run', spec, '--wait']);
    expect(forPeople.stderr.trim().split('\n')).toHaveLength(7);
  });

  test('each ends in one sentence, a code that is not 0, and nothing that is registered or served', {
    timeout: TEST_MS_MAX,
  }, async () => {
    const inputs = badInputs(folder, stack.gateway);
    const ended = await inOrder(
      inputs.map((input, i) => () => anneal(['run', '--no-plan', writeBadInput(folder, i, input), '--wait', '--json'])),
    );
    for (const [i, { name, kind, says }] of inputs.entries()) {
      const { code, stdout, stderr } = ended[i] as Ended;
      expect(stdout, `${name}: ${stderr}`).not.toBe('');
      const result = lastObject(ended[i] as Ended);
      expect(result, name).toMatchObject({ status: 'failed', version: null, endpoint: null, failure: { kind } });
      expect((result.failure as { message: string }).message, name).toMatch(says);
      expect(code, name).toBe(1);
    }
    await expectNothingRegistered();
  });

  const disk = canMount();
  test.skipIf(!disk)(
    'a full disk is named, and the run goes on once there is room',
    { timeout: TEST_MS_MAX },
    async () => {
      writeRows('many.jsonl', 600);
      const spec = writeSpec('full', { ...trainable('many.jsonl'), train: { epochs: 1, maxSteps: 5 }, until: 'train' });
      for (const part of ['data', 'gpu']) {
        using _ = mountSmallDisk(join(state, part), SMALL_KB);
        const ended = await anneal(['run', '--no-plan', spec, '--wait', '--json']);
        expect(lastObject(ended)).toMatchObject({ status: 'failed', failure: { kind: 'disk_full' } });
        expect((lastObject(ended).failure as { message: string }).message).toMatch(
          /^(No space is left|The working folder's disk is full|.*disk is full).*free /,
        );
        expect(ended.code).toBe(1);
      }
      const run = (await read<RunSummary[]>('ps')).find((one) => one.run.startsWith('full-'))?.run as string;
      const resumed = await anneal(['resume', run, '--wait', '--json']);
      expect(lastObject(resumed)).toMatchObject({ status: 'completed' });
      await expectNothingRegistered();
    },
  );

  test('a source that the access key may not read is refused, not waited for', { timeout: TEST_MS_MAX }, async () => {
    await lockBucket('locked', 'rows.jsonl');
    const spec = writeSpec('locked', { data: { sources: [{ uri: 's3://locked/rows.jsonl' }] } });
    const ended = await anneal(['run', '--no-plan', spec, '--wait', '--json']);
    expect(lastObject(ended)).toMatchObject({
      status: 'failed',
      failure: {
        kind: 'bad_request',
        message: expect.stringMatching(
          /^Source s3:\S+ may not be read .*AccessDenied.*; give it the right to, or correct/,
        ),
      },
    });
    expect(ended.code).toBe(1);
  });

  test('wrong credentials of the store are named', async () => {
    const { code, stderr } = await anneal(['models'], { AWS_SECRET_ACCESS_KEY: 'wrong' });
    expect(stderr).toMatch(
      /^The object store could not list models\/ \(.+\); check the access key, the secret and the bucket policy\.\n$/,
    );
    expect(code).toBe(1);
  });

  async function expectNothingRegistered(): Promise<void> {
    await withStore(async (list) => {
      expect(await list(keys.models())).toEqual([]);
      expect(await list(keys.endpoints())).toEqual([]);
    });
    expect(await read('models')).toEqual([]);
    const served = (await (await fetch(`${stack.gateway}/v1/models`)).json()) as { data: { id: string }[] };
    expect(served.data.map(({ id }) => id)).toEqual(['tiny']);
  }
});

describe('runs', () => {
  let run: string;

  test('two programs that want the same share one run, and a third gets its end at once', {
    timeout: TEST_MS_MAX,
  }, async () => {
    writeRows('support.jsonl', 150);
    const spec = writeSpec('support', trainable('support.jsonl'));
    const wait = () => anneal(['run', spec, '--wait', '--json']);
    const [first, second] = (await Promise.all([wait(), wait()])) as [Ended, Ended];
    expect([first.code, second.code]).toEqual([0, 0]);
    expect(lastObject(second)).toEqual(lastObject(first));
    expect(lastObject(first)).toMatchObject({
      status: 'completed',
      version: 1,
      endpoint: 'support',
      evaluation: { gate: { verdict: 'pass' } },
    });
    const third = await wait();
    expect(third.stderr).toContain('was completed before; nothing is done again');
    expect(lastObject(third)).toEqual(lastObject(first));
    run = lastObject(first).run as string;
  });

  test('a finished run can be looked at, its logs read, its model listed and asked', {
    timeout: TEST_MS_MAX,
  }, async () => {
    expect((await anneal(['status', run])).stdout).toMatch(/gate pass/);
    expect((await anneal(['ps'])).stdout).toMatch(new RegExp(`^${run} +completed +deploy`, 'm'));
    expect((await anneal(['watch', run])).stdout).toMatch(new RegExp(`${run} completed: support version 1$`, 'm'));
    expect((await anneal(['logs', run])).stdout).toMatch(/ gpu +done .*stage=train /);
    const [version] = await read<(Version & { aliases: string[] })[]>('models', 'support');
    expect(version).toMatchObject({ version: 1, run, aliases: ['champion'] });
    const { answer } = await read<{ answer: string }>('chat', 'support', '--message', 'item 3: which colour?');
    expect(answer).toEqual(expect.any(String));
    const unknown = await anneal(['chat', 'suport', '--message', 'x']);
    expect(unknown.stderr).toMatch(/suport/);
    expect(unknown.code).toBe(1);
  });

  test('its weights go to a folder, whole and never over another’s, and its curve to one that TensorBoard reads', {
    timeout: TEST_MS_MAX,
  }, async () => {
    const folder = join(state, 'exported');
    const exported = await anneal(['export', 'support', 'v1', '--to', folder, '--json']);
    expect(lastObject(exported)).toMatchObject({ run, model: 'support', version: 1, folders: ['adapter'] });
    const { weightsSha256 } = JSON.parse(readFileSync(join(folder, 'export.json'), 'utf8')) as TrainResult;
    const weights = readFileSync(join(folder, 'adapter', 'adapter_model.safetensors'));
    expect(createHash('sha256').update(weights).digest('hex')).toBe(weightsSha256);
    const other = await anneal(['export', run, '--to', folder]);
    expect([other.code, other.stderr]).toEqual([2, expect.stringContaining('holds something else already')]);
    const unknown = await anneal(['export', run, '--to', join(state, 'other'), '--only', 'merged-best']);
    expect(unknown.stderr).toContain('has no merged-best; it has adapter.');
    expect((await anneal(['export', 'moon', '--to', folder])).stderr).toContain('models are support)');

    const compared = await anneal(['compare', run, '--to', join(state, 'curves')]);
    expect(compared.stdout).toMatch(/^gate +pass$/m);
    expect(readdirSync(join(state, 'curves', run)).sort()).toEqual([TENSORBOARD_FILE, 'steps.csv', 'validations.csv']);
    const [titles, first] = readFileSync(join(state, 'curves', run, 'steps.csv'), 'utf8').split('\n');
    expect([titles, first]).toEqual(['step,loss,gradNorm,learningRate', expect.stringMatching(/^1,\d/)]);
  });

  test('a cancelled run stops with a checkpoint, and goes on from it when it is resumed', {
    timeout: TEST_MS_MAX,
  }, async () => {
    // It cannot end by itself while the test lasts.
    const endless = { train: { epochs: 1_000, microBatch: 4, saveSteps: 100_000 }, until: 'train' };
    const spec = writeSpec('endless', { ...trainable('support.jsonl'), ...endless });
    const { run: id } = lastObject(await anneal(['run', spec, '--json'])) as { run: string };
    await untilStep(state, id, 20);
    const cancel = async () => lastObject(await anneal(['cancel', id, '--wait', '--json']));
    expect(await cancel()).toEqual({ run: id, status: 'cancelled' });
    expect((await anneal(['status', id])).stdout).toContain('anneal resume');
    const saved = await withStore((list) => list(keys.claims(id)));
    expect(saved.some((key) => key.includes('/checkpoints/'))).toBe(true);
    const reached = stepOf(state, id);
    expect((await anneal(['resume', id])).code).toBe(0);
    await untilStep(state, id, reached + 5);
    expect(await cancel()).toEqual({ run: id, status: 'cancelled' });
    const froms = readEvents(state, id).flatMap((event) => (event.ev === 'plan' ? [event.from] : []));
    expect(froms).toEqual([0, reached]);
  });
});

test('a schedule trains on what is new and skips when nothing is', { timeout: TEST_MS_MAX }, async () => {
  writeRows('nightly.jsonl', 140);
  const spec = writeSpec('nightly', trainable('nightly.jsonl'));
  expect((await anneal(['schedule', 'create', 'nightly', '--spec', spec, '--every', '1d'])).code).toBe(0);
  const trigger = async (): Promise<RetrainingResult> => {
    const last = async () =>
      (await read<ScheduleSummary[]>('schedule', 'list')).find(({ id }) => id === 'nightly')?.lastWorkflow;
    const before = await last();
    expect((await anneal(['schedule', 'trigger', 'nightly'])).code).toBe(0);
    const started = await vi.waitUntil(async () => (await last()) !== before && (await last()), {
      timeout: 30_000,
      interval: 500,
    });
    return await resultOfWorkflow<RetrainingResult>(started as string);
  };
  expect(await trigger()).toMatchObject({ skipped: null, status: { version: 1, endpoint: 'nightly' } });
  expect(await trigger()).toMatchObject({
    skipped: 'The sources are unchanged since nightly version 1.',
    status: null,
  });
  expect((await anneal(['schedule', 'pause', 'nightly'])).stdout).toContain('Schedule nightly is paused');
  expect((await anneal(['schedule', 'list'])).stdout).toMatch(/^nightly +every 1 d +paused/m);
  expect((await anneal(['schedule', 'delete', 'nightly'])).code).toBe(0);
  expect(await read('models', 'nightly')).toHaveLength(1);
});

test('what a killed supervisor left behind is ended by the next `up`, and nothing that was done is lost', {
  timeout: TEST_MS_MAX,
}, async () => {
  const before = Object.values(stack.parts);
  process.kill(stack.supervisor.pid, 'SIGKILL');
  await waitUntilGone(stack.supervisor, 10_000);
  expect(before.every((part) => part && isAlive(part))).toBe(true);
  expect((await anneal(['ps'])).stderr).toContain('start one with `anneal up`');
  stack = await up();
  expect(before.filter((part) => part && isAlive(part))).toEqual([]);
  expect((await read<RunSummary[]>('ps')).map(({ run: id }) => id)).toContainEqual(expect.stringMatching(/^support-/));
  expect((await read<{ answer: string }>('chat', 'support', '--message', 'item 3: which colour?')).answer).toEqual(
    expect.any(String),
  );
  const after = Object.values(stack.parts);
  expect((await anneal(['down'])).stdout).toMatch(/^Stopped temporal, store, control, data, gpu, gateway\.$/m);
  expect(after.filter((part) => part && isAlive(part))).toEqual([]);
});

/** Two at a time, as many as the data worker takes. */
async function inOrder<T>(tasks: (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = [];
  const queue = tasks.entries();
  const work = async () => {
    for (const [i, task] of queue) results[i] = await task();
  };
  await Promise.all([work(), work()]);
  return results;
}
