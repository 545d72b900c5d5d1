// The whole pipeline on real servers with a tiny model, and what the product promises: kill a part, get the same bytes.
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AnnealClient } from '../src/client/connect.ts';
import { connect } from '../src/client/connect.ts';
import { readEnvironment } from '../src/contracts/environment.ts';
import { STAGES } from '../src/contracts/names.ts';
import { FREE_PORTS, type PartName, type Stack, startStack } from '../src/dev/stack.ts';
import { ancestryOf, findVersion } from '../src/registry/parent.ts';
import { createStoreFromEnvironment } from '../src/storage/open-store.ts';
import { readTrainerRecord } from '../src/trainer/leftovers.ts';
import { describeObjectStore, describeRemoteStore } from './storage/object-store.conformance.ts';
import { asLines, colourRows, untilStep } from './support/steps.ts';

const RUN_MS_MAX = 300_000;

let folder: string;
let state: string;
let stack: Stack;
let client: AnnealClient;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-pipeline-'));
  state = join(folder, 'state');
  stack = await startStack({
    project: join(import.meta.dirname, '..'),
    state,
    ports: FREE_PORTS,
    database: 'file',
    environment: { ANNEAL_SERVE_BASE: 'tiny' },
  });
  client = await connect(readEnvironment(stack.environment));
  const rows = colourRows(150);
  const lines = [...rows, rows[3], rows[4]].map((row) => JSON.stringify(row));
  await writeFile(
    join(folder, 'rows.jsonl'),
    `${[...lines, '{"messages": [', '{"question":"a","answer":""}'].join('\n')}\n`,
  );
}, RUN_MS_MAX);

afterAll(async () => {
  await client?.close();
  await stack?.stop();
  await rm(folder, { recursive: true, force: true });
}, 60_000);

const spec = (name: string, more: object = {}) => ({
  name,
  model: { base: 'tiny' },
  data: { sources: [{ uri: join(folder, 'rows.jsonl') }] },
  train: { epochs: 4, microBatch: 4, learningRate: 0.01, lora: { dropout: 0.1 } },
  ...more,
});

/** The stages of which the workers' logs have a line that names the run; what `anneal logs <run>` finds. */
function stagesLogged(run: string): unknown[] {
  const lines = (['control', 'data', 'gpu'] as const).flatMap((part) =>
    readFileSync(stack.logFile(part), 'utf8').split('\n'),
  );
  const entries = lines
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  return entries.filter((entry) => entry.run === run && entry.attempt === 1).map(({ stage }) => stage);
}

describe('store on S3', () => {
  const open = () => createStoreFromEnvironment(readEnvironment(stack.environment));
  describeObjectStore(() => ({ first: open(), second: open() }));
  describeRemoteStore(open);
});

test('raw rows become a served model, with accounts that add up', { timeout: RUN_MS_MAX }, async () => {
  await client.startRun(spec('whole', { evaluate: { match: 'none', rows: 12 } }), { runId: 'whole-1' });
  const ended = await client.waitForRun('whole-1');
  expect(ended.status?.failure).toBeNull();
  expect(ended.status?.data).toMatchObject({
    rowsIn: 154,
    kept: 150,
    duplicates: 2,
    dropped: { invalid_json: 1, empty_content: 1 },
  });
  expect(ended.status).toMatchObject({ version: 1, endpoint: 'whole', evaluation: { gate: { verdict: 'pass' } } });

  const openai = new OpenAI({ baseURL: `${stack.gateway}/v1`, apiKey: 'none', maxRetries: 0 });
  expect((await openai.models.list()).data.map(({ id }) => id)).toContain('whole');
  expect(stagesLogged('whole-1')).toEqual(expect.arrayContaining([...STAGES]));
  const stream = await openai.chat.completions.create({
    model: 'whole',
    messages: [{ role: 'user', content: 'item 7: which colour has number 9?' }],
    max_tokens: 5,
    stream: true,
  });
  let finish: string | null = null;
  for await (const chunk of stream) finish = chunk.choices[0]?.finish_reason ?? finish;
  expect(['stop', 'length']).toContain(finish);
});

test('texts without turns are read on, and judged by their loss', { timeout: RUN_MS_MAX }, async () => {
  const file = join(folder, 'texts.csv');
  const texts = Array.from(
    { length: 60 },
    (_, i) => `${i},item ${i} has the colour ${['red', 'green', 'blue'][i % 3]}`,
  );
  await writeFile(file, `id,body\n${texts.join('\n')}\n`);
  const data = { sources: [{ uri: file, columns: { text: 'Fact {{id}}: {{body}}.' } }] };
  const train = { epochs: 4, microBatch: 4, learningRate: 0.01 };
  await client.startRun(spec('texts', { data, train, until: 'register' }), { runId: 'texts-1' });
  const { status } = await client.waitForRun('texts-1');
  expect(status?.failure).toBeNull();
  expect(status).toMatchObject({ data: { rowsIn: 60, kept: 60 }, version: 1 });
  expect(status?.evaluation).toMatchObject({ matchKind: 'none', gate: { metric: 'loss', verdict: 'pass' } });
});

describe('preferences', () => {
  const answer = (i: number) => ['red', 'green', 'blue'][i % 3];
  const question = (i: number) => `item ${i}: which colour has number ${(i * 37) % 101}?`;
  const pairs = Array.from({ length: 120 }, (_, i) => ({
    prompt: question(i),
    chosen: `Gladly, it is ${answer(i)}.`,
    rejected: `See the list: ${answer(i)}!`,
  }));
  const judged = pairs.flatMap(({ prompt, chosen, rejected }) => [
    { prompt, completion: chosen, label: true },
    { prompt, completion: rejected, label: 'bad' },
  ]);

  test.each([
    ['dpo', pairs, 'deploy', /^The tuned model leans to the chosen answer, .* pairs/],
    ['kto', judged, 'register', /^The tuned model finds .* wanted answers likelier/],
    ['reward', pairs, 'register', /^The reward model gives the chosen answer more in .* pairs/],
  ] as const)(
    '%s: rows become a registered model that tells good answers from bad ones',
    { timeout: RUN_MS_MAX },
    async (method, rows, until, reason) => {
      const uri = join(folder, `${method}.jsonl`);
      await writeFile(uri, asLines([...rows, { prompt: 'a', chosen: 'b' }]));
      const data = { sources: [{ uri }], split: { test: 0.3, validation: 0 } };
      const train = { method, maxSteps: 20, microBatch: 2, learningRate: 0.01, threads: 1 };
      await client.startRun(spec(method, { data, train, until }), { runId: `${method}-1` });
      const { status } = await client.waitForRun(`${method}-1`);
      expect(status?.failure).toBeNull();
      expect(status).toMatchObject({
        version: 1,
        endpoint: until === 'deploy' ? method : null,
        data: { rowsIn: rows.length + 1, kept: rows.length },
        evaluation: { gate: { metric: 'preference', verdict: 'pass', reason: expect.stringMatching(reason) } },
      });
    },
  );

  test('dpo continues a registered version, which it is held to and compared with', {
    timeout: RUN_MS_MAX,
  }, async () => {
    const uri = join(folder, 'chain.jsonl');
    await writeFile(uri, asLines(pairs));
    const data = { sources: [{ uri }], split: { test: 0.3, validation: 0 } };
    const train = {
      method: 'dpo',
      from: 'whole@champion',
      maxSteps: 20,
      microBatch: 2,
      learningRate: 0.01,
      threads: 1,
    };
    const more = { data, train, register: { model: 'whole' }, deploy: { endpoint: 'whole' } };
    await client.startRun(spec('chain', more), { runId: 'chain-1' });
    const { status } = await client.waitForRun('chain-1');
    expect(status?.failure).toBeNull();
    expect(status).toMatchObject({
      ...{ version: 2, endpoint: 'whole' },
      evaluation: {
        gate: { against: 'whole@1', reason: expect.stringMatching(/, more than whole@1 does,/) },
        parent: { name: 'whole@1', comparison: { metric: 'loss' } },
      },
    });
    const store = createStoreFromEnvironment(readEnvironment(stack.environment));
    try {
      const [second, first] = await ancestryOf(store, await findVersion(store, 'whole@champion'));
      expect(second).toMatchObject({ version: 2, parent: { model: 'whole', version: 1, digest: first?.digest } });
      expect(first).toMatchObject({ version: 1, run: 'whole-1', parent: null });
      expect(second?.base).toEqual(first?.base);
    } finally {
      await store.close();
    }
  });

  test('what cannot continue a version is refused before a row is read', { timeout: RUN_MS_MAX }, async () => {
    const train = { from: 'whole@1', lora: { rank: 4 } };
    await client.startRun(spec('other-rank', { train, until: 'train' }), { runId: 'other-rank-1' });
    const { status } = await client.waitForRun('other-rank-1');
    expect(status?.failure).toMatchObject({
      kind: 'bad_request',
      message: '`train.lora.rank` must be 16, as whole@1 has it, which `train.from` continues, got 4.',
    });
  });

  test('rows that do not fit the method are refused before a GPU is asked for', { timeout: RUN_MS_MAX }, async () => {
    await client.startRun(spec('unfit', { train: { method: 'dpo' } }), { runId: 'unfit-1' });
    const { status } = await client.waitForRun('unfit-1');
    expect(status?.failure).toMatchObject({
      kind: 'data_rejected',
      message: expect.stringMatching(
        /^No row of \S+rows\.jsonl can be used with `train\.method: dpo`.*set `train\.method: sft`\.$/,
      ),
    });
  });
});

test('a wrong spec fails with every problem and its path, before anything else', { timeout: RUN_MS_MAX }, async () => {
  await client.startRun({ name: 'BAD', train: { epoch: 2 } } as never, { runId: 'bad-1' });
  const ended = await client.waitForRun('bad-1');
  expect(ended.status?.failure).toMatchObject({ kind: 'bad_request' });
  expect(ended.status?.failure?.message).toContain('`name`');
  expect(ended.status?.failure?.message).toContain('did you mean `epochs`?');
});

describe('killed parts', () => {
  const long = { train: { epochs: 8, microBatch: 4, saveSteps: 20, lora: { dropout: 0.1 } }, until: 'train' };
  let undisturbed: string;

  async function weightsOf(run: string): Promise<string> {
    const ended = await client.waitForRun(run, { outageMsMax: 60_000 });
    expect(ended.status?.failure ?? null).toBeNull();
    return ended.status?.training?.weightsSha256 as string;
  }

  beforeAll(async () => {
    await client.startRun(spec('still', long), { runId: 'still-1' });
    undisturbed = await weightsOf('still-1');
  }, RUN_MS_MAX);

  test('a trainer killed three times ends at the same bytes', { timeout: RUN_MS_MAX }, async () => {
    await client.startRun(spec('trainer', long), { runId: 'trainer-1' });
    for (const step of [25, 70, 130]) {
      await untilStep(state, 'trainer-1', step);
      const trainer = readTrainerRecord(state);
      expect(trainer?.run).toBe('trainer-1');
      process.kill(trainer?.pid as number, 'SIGKILL');
    }
    expect(await weightsOf('trainer-1')).toBe(undisturbed);
    expect((await client.describeRun('trainer-1')).status?.training?.recoveries).toBe(3);
  });

  test.each<PartName>(['gpu', 'temporal', 'store'])(
    '%s killed in mid-training: the same bytes',
    { timeout: RUN_MS_MAX },
    async (part) => {
      const run = `killed-${part}`;
      await client.startRun(spec(run, long), { runId: run });
      await untilStep(state, run, 60);
      await stack.kill(part);
      await stack.waitReady(part);
      expect(await weightsOf(run)).toBe(undisturbed);
    },
  );
});
