// A source that stays away: asked again for a while, then the end, with how long it was tried.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createIngestActivities } from '../../src/activities/ingest.ts';
import type { Parts } from '../../src/activities/parts.ts';
import { createRegisterActivities } from '../../src/activities/register.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import type { IngestResult } from '../../src/contracts/stages.ts';
import { planRanges } from '../../src/data/preparation/plan.ts';
import { parentOf } from '../../src/registry/parent.ts';
import { moveAlias, registerVersion } from '../../src/registry/versions.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import { openBaseModel } from '../../src/trainer/base-model.ts';
import { draftVersion } from '../support/versions.ts';

const models = join(PROJECT_FOLDER, '.anneal', 'models');
const quiet = { logger: new DefaultLogger('ERROR') };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-ingest-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function activities(gatewayUrl = '') {
  const parts = { models, store: createFileStore(join(folder, 'store')), examples: folder, gatewayUrl } as Parts;
  return { ...createIngestActivities(parts, async () => null), ...createRegisterActivities(parts) };
}

/** A port that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return port;
}

test('a server that does not answer is asked again for two minutes', async () => {
  const uri = `http://127.0.0.1:${await closedPort()}/rows.jsonl`;
  const spec = parseSpec({ name: 'away', model: { base: 'tiny' }, data: { sources: [{ uri, allowPrivate: true }] } });
  const attempt = (number: number, seconds: number) => {
    const info = { attempt: number, scheduledTimestampMs: Date.now() - seconds * 1000 };
    return new MockActivityEnvironment(info, quiet).run(activities().ingest, { run: 'r', spec });
  };
  for (const [number, seconds] of [
    [1, 7200],
    [8, 60],
    [7, 130],
  ] as const) {
    await expect(attempt(number, seconds)).rejects.toMatchObject({ type: 'source_unavailable', nonRetryable: false });
  }
  await expect(attempt(8, 130)).rejects.toMatchObject({
    type: 'source_unavailable',
    nonRetryable: true,
    message: expect.stringMatching(/\(ECONNREFUSED\); check the address and the network \(tried 8 times in 2 min\)\.$/),
  });
});

test('what the base model cannot do is refused before a byte is read, all at once', async () => {
  const served = { base: 'smollm2-135m' };
  const gateway = createServer((_, response) => response.end(JSON.stringify(served)));
  await new Promise<void>((listening) => gateway.listen(0, '127.0.0.1', listening));
  const gatewayUrl = `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`;
  const ingest = (input: object) => {
    const sources = [{ uri: join(folder, 'absent.jsonl') }];
    const spec = parseSpec({ name: 'wrong', model: { base: 'tiny' }, data: { sources }, ...input });
    return new MockActivityEnvironment({}, quiet).run(activities(gatewayUrl).ingest, { run: 'wrong', spec });
  };
  try {
    await expect(ingest({ train: { lora: { targets: ['q_proj', 'moon_proj'] } } })).rejects.toMatchObject({
      type: 'bad_request',
      nonRetryable: true,
      message: expect.stringMatching(
        /^`train\.lora\.targets` names moon_proj, which the model does not have; it has down_proj, .*q_proj.*; `model\.base` is tiny, but the gateway at \S+ serves adapters of smollm2-135m; start it with ANNEAL_SERVE_BASE=tiny, or set `until: register`\.$/,
      ),
    });
    await expect(ingest({ until: 'register' })).rejects.toThrow('absent.jsonl is not there');
    served.base = 'tiny';
    await expect(ingest({})).rejects.toThrow('absent.jsonl is not there');
  } finally {
    gateway.close();
  }
  await expect(ingest({})).rejects.toThrow('absent.jsonl is not there');
});

test('what was read is not read again by the next attempt, and is by the next execution', async () => {
  const first = join(folder, 'a.jsonl');
  writeFileSync(first, '{"question":"a","answer":"b"}\n');
  const sources = [{ uri: first }, { uri: join(folder, 'b.jsonl') }];
  const spec = parseSpec({ name: 'again', model: { base: 'tiny' }, data: { sources } });
  const attempt = (runId: string) =>
    new MockActivityEnvironment({ workflowExecution: { workflowId: 'again', runId } }, quiet).run(activities().ingest, {
      run: 'again',
      spec,
    }) as Promise<IngestResult>;
  await expect(attempt('one')).rejects.toThrow('b.jsonl is not there');
  writeFileSync(first, '{"question":"changed","answer":"b"}\n');
  writeFileSync(join(folder, 'b.jsonl'), '{"question":"c","answer":"d"}\n');
  const second = await attempt('one');
  const third = await attempt('two');
  expect(second.contents[0]).not.toEqual(third.contents[0]);
  expect(second.contents[1]).toEqual(third.contents[1]);
});

test('a run that a schedule planned gets the snapshot that was read for it, what is new as well', async () => {
  const logs = join(folder, 'logs');
  mkdirSync(logs);
  writeFileSync(join(logs, '1.jsonl'), '{"question":"a","answer":"b"}\n');
  const data = { sources: [{ uri: logs, follow: { mode: 'new' as const } }] };
  const spec = parseSpec({ name: 'follow', model: { base: 'tiny' }, data });
  const { ingest, planRetraining, giveBack } = activities();
  const run = <I, O>(activity: (input: I) => Promise<O>, input: I, runId: string) => {
    const info = { workflowExecution: { workflowId: 'any', runId } };
    return new MockActivityEnvironment(info, quiet).run(activity, input) as Promise<O>;
  };
  const schedule = async (start: string) => {
    const taken = await run(ingest, { run: start, spec }, start);
    return { taken, plan: await run(planRetraining, { ...taken, spec }, start) };
  };
  const first = await schedule('start-1');
  expect(first.plan.skip).toBeNull();
  const child = await run(ingest, { run: first.plan.run, spec }, 'child');
  expect([child.snapshot, child.sizeBytes, child.contents]).toEqual([first.taken.snapshot, 30, first.taken.contents]);
  const second = await schedule('start-2');
  expect(second.plan.skip).toBe('The sources have given nothing new since the last snapshot.');
  writeFileSync(join(logs, '2.jsonl'), '{"question":"c","answer":"d"}\n');
  const third = await schedule('start-3');
  expect([third.plan.skip, third.taken.sizeBytes]).toEqual([null, 30]);
  expect(third.plan.run).not.toBe(first.plan.run);
  // It fails: the next one takes the same again, and is the same run, which then goes on.
  const given = await run(giveBack, { run: 'start-3', spec }, 'start-3');
  expect(given.outcome).toBe(`gave back what it took of ${logs}`);
  const fourth = await schedule('start-4');
  expect(fourth.plan).toEqual(third.plan);
  expect(await run(giveBack, { run: 'start-3', spec }, 'start-3')).toEqual({ outcome: 'nothing to give back' });
});

test('evaluation suites are read once, by ingest, also for the run that a schedule planned', async () => {
  const [rows, suite] = [join(folder, 'rows.jsonl'), join(folder, 'suite.jsonl')];
  writeFileSync(rows, '{"question":"a","answer":"b"}\n');
  writeFileSync(suite, '{"question":"c"}\n');
  const data = { sources: [{ uri: rows }], decontaminate: { against: [suite] } };
  const spec = parseSpec({ name: 'suites', model: { base: 'tiny' }, data });
  const { ingest, planRetraining } = activities();
  const run = <I, O>(activity: (input: I) => Promise<O>, input: I) =>
    new MockActivityEnvironment({}, quiet).run(activity, input) as Promise<O>;
  const first = await run(ingest, { run: 'suites-1', spec });
  expect(first.suites).toMatch(/^[0-9a-f]{64}$/);
  const planned = await run(planRetraining, { spec, ...first });
  rmSync(suite);
  const handed = await run(ingest, { run: planned.run, spec });
  expect(handed.suites).toBe(first.suites);
  const host = {
    ...{ store: createFileStore(join(folder, 'store')), folder, pseudonymKey: null, report: () => {} },
    ...{ sources: { examplesFolder: folder, readS3: async () => null }, signal: new AbortController().signal },
  };
  const { snapshot, suites = null } = handed;
  expect((await planRanges(host, { spec, snapshot, suites })).suites).toBe(first.suites);
  await expect(planRanges(host, { spec, snapshot })).rejects.toThrow(/suite\.jsonl/);
  const without = parseSpec({ name: 'suites', model: { base: 'tiny' }, data: { sources: [{ uri: rows }] } });
  expect((await run(ingest, { run: 'suites-2', spec: without })).suites).toBeNull();
});

test('a schedule’s run continues what the alias named when it was planned', async () => {
  const rows = join(folder, 'rows.jsonl');
  writeFileSync(rows, '{"question":"a","answer":"b"}\n');
  const train = { from: 'chain@champion' };
  const spec = parseSpec({ name: 'chain', model: { base: 'tiny' }, data: { sources: [{ uri: rows }] }, train });
  const store = createFileStore(join(folder, 'store'));
  const base = { name: 'tiny', digest: (await openBaseModel('tiny', models)).digest };
  const promote = async (digest: string) => {
    const draft = draftVersion({ model: 'chain', digest, files: { digest, files: [] }, base, recipe: spec.train });
    const { version } = await registerVersion(store, draft);
    await moveAlias(store, { model: 'chain', alias: 'champion', to: version, by: 'test', why: 'test' });
  };
  const { ingest, planRetraining } = activities();
  const run = <I, O>(activity: (input: I) => Promise<O>, input: I, workflowId: string) =>
    new MockActivityEnvironment({ workflowExecution: { workflowId, runId: workflowId } }, quiet).run(
      activity,
      input,
    ) as Promise<O>;
  const schedule = async (start: string) => {
    const taken = await run(ingest, { run: start, spec }, start);
    return await run(planRetraining, { ...taken, spec }, start);
  };
  await expect(run(ingest, { run: 'early', spec }, 'early')).rejects.toThrow('There is no version chain@champion');
  await promote('1'.repeat(64));
  const first = await schedule('start-1');
  await promote('2'.repeat(64));
  expect(await parentOf(store, { run: first.run, from: train.from })).toMatchObject({ version: 1 });
  expect((await run(ingest, { run: first.run, spec }, first.run)).outcome).toContain('; continues chain@1');
  const second = await schedule('start-2');
  expect(second.run).not.toBe(first.run);
  expect(await parentOf(store, { run: second.run, from: train.from })).toMatchObject({ version: 2 });
  const other = parseSpec({ ...spec, train: { ...spec.train, lora: { rank: 4 } } });
  await expect(run(ingest, { run: 'other', spec: other }, 'other')).rejects.toThrow(
    '`train.lora.rank` must be 16, as chain@2 has it, which `train.from` continues, got 4.',
  );
});
