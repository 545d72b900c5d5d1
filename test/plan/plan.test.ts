// A plan from facts: steps, time, cost, and every problem at once.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseSpec, type SpecInput } from '../../src/contracts/spec.ts';
import { hourPriceHere, priced } from '../../src/plan/budget-limit.ts';
import type { PlannedData } from '../../src/plan/data.ts';
import { describeHost } from '../../src/plan/host.ts';
import { readModelShape } from '../../src/plan/model-shape.ts';
import { packedRows } from '../../src/plan/packing.ts';
import { countParameters } from '../../src/plan/parameters.ts';
import { makePlan, type PlanFacts } from '../../src/plan/plan.ts';
import { readPrices } from '../../src/plan/prices.ts';
import { type Sample, sampleSources } from '../../src/plan/sample.ts';
import { planSteps } from '../../src/plan/steps.ts';
import { digestOf } from '../../src/storage/digest.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import { collect, readParts } from '../data/given.ts';
import { CPU_HOST, H100, llama8b, recipeOf, writeModel } from './given.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-plan-test-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const DATA: PlannedData = {
  accounts: {
    ...{ rowsIn: 1100, kept: 1050, duplicates: 30, dropped: { empty_content: 20 }, bySource: [] },
    splits: { train: 1000, validation: 20, test: 30 },
  },
  splits: { train: { rows: 1000, tokens: 200_000, trainableTokens: 100_000, longest: 512 } },
  ...{ factor: 1, rowsPerEpoch: 1000, train: '/none' },
};

function facts(spec: Omit<SpecInput, 'name' | 'data'>, more: Partial<PlanFacts> = {}): PlanFacts {
  return {
    spec: parseSpec({ name: 'support', data: { sources: [{ uri: 'a.jsonl' }] }, ...spec }),
    ...{
      shape: llama8b(),
      data: DATA,
      host: H100,
      probe: null,
      prices: null,
      speeds: [],
      notes: [],
      problems: [],
      nowMs: 0,
    },
    ...more,
  };
}
const problemsOf = (...given: Parameters<typeof facts>) => makePlan(facts(...given)).problems;
const SPEED = { tokensPerSecond: 100, device: 'NVIDIA H100 80GB HBM3', run: 'support-1', at: '' };

describe('steps', () => {
  test.each([
    [{}, { perEpoch: 125, total: 375, effectiveBatch: 8, tokens: 600_000 }],
    [
      { microBatch: 7, accumulation: 4, processes: 2 },
      { perEpoch: 18, total: 54, effectiveBatch: 56, tokens: 600_000 },
    ],
    [{ epochs: 0.5 }, { perEpoch: 125, total: 63, effectiveBatch: 8, tokens: 100_800 }],
    [{ maxSteps: 25 }, { perEpoch: 125, total: 25, effectiveBatch: 8, tokens: 40_000 }],
  ])('%o', (recipe, expected) => {
    expect(planSteps(recipeOf(recipe), DATA)).toEqual(expected);
  });

  test('a sample is multiplied', () => {
    expect(planSteps(recipeOf(), { ...DATA, factor: 10 })).toMatchObject({ perEpoch: 1250, tokens: 6_000_000 });
    expect(makePlan(facts({}, { data: { ...DATA, factor: 10 } })).data).toMatchObject({ rowsIn: 11_000, kept: 10_500 });
  });

  test('packed rows are counted as they are packed: each into the fullest that has room', () => {
    expect(packedRows([10, 6, 5, 5, 4, 3, 1])).toBe(4);
    expect(packedRows([5, 5, 5])).toBe(3);
    expect(packedRows([])).toBe(0);
  });
});

describe('time and cost', () => {
  test('are unknown until something like it was measured', () => {
    const plan = makePlan(facts({}));
    expect(plan.time).toBeNull();
  });

  test('follow from what an earlier run measured on this kind of GPU, and from the table', async () => {
    const prices = await readPrices(join(PROJECT_FOLDER, 'examples', 'prices.yaml'));
    const plan = makePlan(facts({}, { speeds: [SPEED], prices }));
    expect(plan.time).toMatchObject({ seconds: 6000, from: 'run support-1' });
    expect(plan.costs.find(({ gpu }) => gpu === 'H100')).toMatchObject({ seconds: 6000, fits: 'fits' });
    expect(plan.costs.find(({ gpu }) => gpu === 'H100')?.usd).toBeCloseTo((6000 / 3600) * 3.5);
    expect(plan.costs.find(({ gpu }) => gpu === 'L4')).toMatchObject({ seconds: null, usd: null, fits: 'too_large' });
  });

  test('the speed of the probe serves where there is no other, for the price of this host, too', async () => {
    const points = [{ rows: 1, bytes: 1, saveBytes: 1, tokens: 500, seconds: 2 }];
    const prices = await readPrices(join(PROJECT_FOLDER, 'examples', 'prices.yaml'));
    const { time, costs } = makePlan(facts({}, { probe: { points }, prices }));
    expect(time).toMatchObject({ tokensPerSecond: 250, from: 'two short steps' });
    const priced = costs.filter(({ seconds }) => seconds !== null);
    expect(priced).toMatchObject([{ gpu: 'H100', seconds: time?.seconds }]);
  });

  test('a table with a mistake is refused with the mistake', async () => {
    const file = join(folder, 'prices.yaml');
    writeFileSync(file, 'date: 2026-11-24\ngpus: [{ name: H100, usdPerHuor: 3 }]\n');
    await expect(readPrices(file)).rejects.toThrow(/usdPerHour[\s\S]*usdPerHuor|usdPerHuor[\s\S]*usdPerHour/);
  });
});

describe('problems', () => {
  test('a plan that can be run has none', () => {
    expect(problemsOf({})).toEqual([]);
  });

  test('all of them come at once', () => {
    const train = { microBatch: 1024, processes: 2, lora: { targets: ['q_proj', 'moon_proj'], firstLayer: 40 } };
    const paths = problemsOf({ train }).map(({ path }) => path);
    expect(paths).toEqual(['train.lora.targets', 'train.lora.firstLayer', 'train.processes', 'train.microBatch']);
  });

  test('experts: left alone with a note, or adapted where there are some', () => {
    const expert = { name: 'model.layers.0.mlp.experts.0.gate_proj.weight', shape: [8, 16] };
    const shape = { ...llama8b(), weights: [...llama8b().weights, expert] };
    const notesOf = (train: object) => makePlan(facts({ train, until: 'register' }, { shape })).notes;
    expect(notesOf({})).toEqual([expect.stringContaining('leaves the experts as they are')]);
    expect(notesOf({ tuning: 'qlora', lora: { experts: true } })).toEqual(['The experts are not quantised.']);
    expect(notesOf({ tuning: 'full' })).toEqual([]);
    const [refused] = problemsOf({ train: { lora: { experts: true } }, until: 'register' });
    expect(refused).toMatchObject({ path: 'train.lora.experts', message: 'must be false: the model has no experts' });
  });

  test('more ranks than GPUs, but not on a CPU host', () => {
    expect(problemsOf({ train: { processes: 4 } })[0]?.message).toBe(
      'must be at most 1, because this host has 1 GPU, got 4; or set `train.device: cpu`',
    );
    expect(problemsOf({ train: { processes: 2 } }, { host: CPU_HOST }).map(({ path }) => path)).not.toContain(
      'train.processes',
    );
  });

  test('a budget below the plan', () => {
    const deadline = { gpuHours: 1, costUsd: 3, pricePerGpuHour: 3.5, deadline: '90 min' };
    const found = problemsOf({ budget: deadline }, { speeds: [SPEED] });
    expect(found.map(({ path }) => path)).toEqual(['budget.gpuHours', 'budget.costUsd', 'budget.deadline']);
    expect(found[1]?.message).toBe('must be at least the planned cost 5.84, got 3; raise it, or lower `train.epochs`');
    expect(problemsOf({ budget: { gpuHours: 2, deadline: '2h' } }, { speeds: [SPEED] })).toEqual([]);
  });

  test('a budget below the plan at the price of the table', () => {
    const prices = { date: '', gpus: [{ name: 'H100', memoryGiB: null, usdPerHour: 3.5 }] };
    const [found] = problemsOf({ budget: { costUsd: 3 } }, { speeds: [SPEED], prices });
    expect(found?.message).toBe('must be at least the planned cost 5.84, got 3; raise it, or lower `train.epochs`');
  });

  test('dollars without a price, which no example gives', () => {
    const prices = { date: '', gpus: [{ name: 'H100', memoryGiB: null, usdPerHour: 3.5 }] };
    const wanting = { budget: { costUsd: 30 } };
    expect(problemsOf(wanting, { prices })).toEqual([]);
    for (const lacking of [null, { ...prices, isExample: true }, { date: '', gpus: [] }]) {
      const [found] = problemsOf(wanting, { prices: lacking });
      expect(found?.path).toBe('budget.costUsd');
      expect(found?.message).toContain(
        'needs the price of an hour of NVIDIA H100 80GB HBM3; set `budget.pricePerGpuHour`',
      );
    }
    expect(problemsOf({ budget: { costUsd: 30, pricePerGpuHour: 2 } }, { prices: null })).toEqual([]);
  });

  test('dollars become GPU seconds at the price of this host, which the table must know', async () => {
    const python = { environment: { CUDA_VISIBLE_DEVICES: '' } } as never;
    const prices = join(folder, 'prices.yaml');
    await expect(hourPriceHere({ prices, python }, recipeOf())).rejects.toMatchObject({
      kind: 'bad_request',
      message: expect.stringContaining('needs the price of an hour of cpu, and the GPU worker’s price table'),
    });
    writeFileSync(prices, 'date: 2026-11-24\ngpus: [{ name: H100, usdPerHour: 3 }]');
    await expect(hourPriceHere({ prices, python }, recipeOf())).rejects.toThrow('lacks it');
    writeFileSync(prices, 'date: 2026-11-24\ngpus: [{ name: H100, usdPerHour: 3 }, { name: cpu, usdPerHour: 0.5 }]');
    expect(await hourPriceHere({ prices, python }, recipeOf())).toBe(0.5);
    expect(priced({ costUsdMax: 2 }, 0.5)).toMatchObject({ gpuSecondsMax: 4 * 3600 });
    expect(priced({ costUsdMax: 2, gpuSecondsMax: 60 }, 0.5)).toMatchObject({ gpuSecondsMax: 60 });
  });
});

describe('parameters', () => {
  test('are read from headers alone, tied ones once', async () => {
    const shape = await readModelShape(writeModel(join(folder, 'model'), llama8b(), { tie_word_embeddings: false }));
    expect(shape).toEqual(llama8b());
    expect(countParameters(shape, recipeOf({ tuning: 'full' })).total).toBe(8_030_261_248);
    const tied = await readModelShape(writeModel(join(folder, 'tied'), llama8b()));
    expect(countParameters(tied, recipeOf({ tuning: 'full' })).total).toBe(8_030_261_248 - 128_256 * 4096);
  });

  test('of adapters follow from rank, targets and layers', () => {
    const count = (lora: object) => countParameters(llama8b(), recipeOf({ lora })).trainable;
    // As PEFT counts for this model.
    expect(count({ rank: 16 })).toBe(41_943_040);
    expect(count({ rank: 16, targets: 'all-linear' })).toBe(41_943_040);
    expect(count({ rank: 8, targets: ['q_proj', 'v_proj'] })).toBe(3_407_872);
    expect(count({ rank: 8, targets: ['q_proj', 'v_proj'], firstLayer: 16 })).toBe(3_407_872 / 2);
  });

  test('a file that is no safetensors is named', async () => {
    mkdirSync(join(folder, 'bad'));
    writeFileSync(join(folder, 'bad', 'config.json'), '{}');
    writeFileSync(join(folder, 'bad', 'model.safetensors'), 'not at all');
    await expect(readModelShape(join(folder, 'bad'))).rejects.toThrow(/model\.safetensors has no safetensors header/);
  });
});

describe('host', () => {
  test.each([
    ['v2', '0::/a/b\n', { 'sys/fs/cgroup/a/b/memory.max': 'max\n', 'sys/fs/cgroup/a/memory.max': '1000000\n' }],
    ['v1', '4:memory:/a\n', { 'sys/fs/cgroup/memory/a/memory.limit_in_bytes': '1000000\n' }],
    ['a container’s own root', '0::/somewhere/else\n', { 'sys/fs/cgroup/memory.max': '1000000\n' }],
  ])('the limit of a control group counts: %s', async (_what, groups, files) => {
    for (const [path, text] of Object.entries({ 'proc/self/cgroup': groups, ...files })) {
      mkdirSync(join(folder, path, '..'), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    expect((await describeHost('', folder)).memoryBytes).toBe(1_000_000);
  });
});

describe('sample', () => {
  const LINE = `${JSON.stringify({ prompt: 'a', completion: 'b' })}\n`;
  const samplingOf = (uris: string[]) => ({
    spec: parseSpec({ name: 'a', data: { sources: uris.map((uri) => ({ uri: join(folder, uri) })) } }),
    ctx: { examplesFolder: folder, readS3: async () => null, temporaryFolder: join(folder, 'temporary') },
    store: createFileStore(join(folder, 'store')),
  });
  async function textOf({ store }: ReturnType<typeof samplingOf>, { snapshot }: Sample): Promise<string> {
    const pieces = await collect(readParts(store, snapshot.sources[0]?.parts ?? []));
    return Buffer.concat(pieces).toString();
  }

  test('a large source is cut at a row’s end, and the rest is reckoned by bytes', async () => {
    writeFileSync(join(folder, 'rows.jsonl'), LINE.repeat(10_000));
    const sampling = samplingOf(['rows.jsonl']);
    expect((await sampleSources(sampling)).factor).toBe(1);
    const part = await sampleSources({ ...sampling, bytesMax: 1000 });
    const [entry] = part.snapshot.sources;
    expect(entry).toMatchObject({
      uri: join(folder, 'rows.jsonl'),
      sizeBytes: Math.floor(1000 / LINE.length) * LINE.length,
    });
    expect((await sampleSources({ ...sampling, bytesMax: 5 })).snapshot.sources[0]?.sizeBytes).toBe(LINE.length);
    expect(part.factor).toBeCloseTo((10_000 * LINE.length) / (entry?.sizeBytes ?? 0), 5);
  });

  test('of rows with images so few are looked into that a plan reads some hundred images, not all', async () => {
    const rows = Array.from(
      { length: 5_000 },
      (_, i) => `${JSON.stringify({ prompt: '<image> what?', completion: 'b', images: [`${i}.png`] })}\n`,
    );
    writeFileSync(join(folder, 'seen.jsonl'), rows.join(''));
    const sampling = samplingOf(['seen.jsonl']);
    const { snapshot, factor } = await sampleSources(sampling);
    const [entry] = snapshot.sources;
    expect(entry?.newlines?.[0]).toBeLessThanOrEqual(500);
    expect((factor ?? 0) * (entry?.newlines?.[0] ?? 0)).toBeCloseTo(5_000, -3);
    expect(entry?.images).toHaveLength(1);
  });

  test('an array is cut behind an element and closed, and a table outside quotes', async () => {
    const rows = Array.from({ length: 1000 }, (_, i) => ({ prompt: `[${i}], "`, completion: '}' }));
    writeFileSync(join(folder, 'rows.json'), `\ufeff ${JSON.stringify(rows, null, 1)}`);
    const array = samplingOf(['rows.json']);
    const part = await sampleSources({ ...array, bytesMax: 1000 });
    const kept = JSON.parse((await textOf(array, part)).replace('\ufeff', '')) as typeof rows;
    expect(kept).toEqual(rows.slice(0, kept.length));
    expect(kept.length).toBeGreaterThan(10);
    expect((part.factor ?? 0) * kept.length).toBeGreaterThan(900);
    expect((part.factor ?? 0) * kept.length).toBeLessThan(1100);

    const record = '"one\ntwo ""three""\n",four\n';
    writeFileSync(join(folder, 'rows.csv'), `prompt,completion\n${record.repeat(100)}`);
    const table = samplingOf(['rows.csv']);
    for (const bytesMax of [100, 101, 102, 103, 104, 105, 110, 115, 120]) {
      const text = await textOf(table, await sampleSources({ ...table, bytesMax }));
      expect(text).toBe(`prompt,completion\n${record.repeat((text.length - 18) / record.length)}`);
      expect(text.length).toBeLessThanOrEqual(bytesMax);
    }
  });

  test('of many files each gives its share, packed ones by how much of them was read', async () => {
    mkdirSync(join(folder, 'in'));
    writeFileSync(join(folder, 'in', 'a.jsonl'), LINE.repeat(1000));
    const noise = Array.from(
      { length: 20_000 },
      (_, i) => `${JSON.stringify({ prompt: digestOf(i), completion: 'b' })}\n`,
    );
    writeFileSync(join(folder, 'in', 'b.jsonl.gz'), gzipSync(noise.join('')));
    const truth = LINE.length * 1000 + noise.join('').length;
    for (const bytesMax of [2000, 400_000]) {
      const sampling = samplingOf(['in']);
      const { factor, snapshot } = await sampleSources({ ...sampling, bytesMax });
      const read = snapshot.sources.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      expect(read).toBeLessThan(bytesMax);
      expect(((factor ?? 0) * read) / truth).toBeGreaterThan(0.7);
      expect(((factor ?? 0) * read) / truth).toBeLessThan(1.3);
    }
  });

  test('of a thousand files some are looked into, all over the folder', async () => {
    mkdirSync(join(folder, 'in'));
    for (let i = 0; i < 128; i++) writeFileSync(join(folder, 'in', `${1000 + i}.jsonl`), LINE.repeat(2));
    const { factor, snapshot, notes } = await sampleSources(samplingOf(['in']));
    expect(snapshot.sources).toHaveLength(64);
    expect(snapshot.sources.at(-1)?.uri).toContain('1126.jsonl');
    expect(factor).toBeCloseTo(2);
    expect(notes).toEqual([`${join(folder, 'in')} has 128 files, of which 64 were looked into.`]);
  });

  test('a table tells its rows itself; packed, it is copied if it is small, else left out and named', async () => {
    const instance = await DuckDBInstance.create(':memory:');
    const connection = await instance.connect();
    const path = join(folder, 'rows.parquet');
    await connection.run(
      `COPY (SELECT 'q' || i AS prompt, 'a' AS completion FROM range(5000) t(i)) TO '${path}' (FORMAT parquet)`,
    );
    connection.closeSync();
    instance.closeSync();
    writeFileSync(join(folder, 'packed.parquet.gz'), gzipSync(readFileSync(path)));
    const bare = await sampleSources({ ...samplingOf(['rows.parquet']), bytesMax: 2000, copyBytesMax: 10 });
    const rows = bare.snapshot.sources[0]?.newlines?.[0] ?? 0;
    expect(rows).toBeGreaterThan(10);
    expect((bare.factor ?? 0) * rows).toBeCloseTo(5000);
    writeFileSync(join(folder, 'rows.jsonl'), LINE);
    const left = await sampleSources({ ...samplingOf(['packed.parquet.gz', 'rows.jsonl']), copyBytesMax: 10 });
    expect(left.notes).toEqual([expect.stringContaining('packed.parquet.gz was left out: tables above 10 bytes')]);
    expect(left.factor).toBeNull();
    expect(left.sources).toHaveLength(1);
    expect(left.snapshot.sources).toHaveLength(1);
  });

  test('every source that cannot be read is named at once', async () => {
    writeFileSync(join(folder, 'rows.jsonl'), LINE);
    const problems = await sampleSources(samplingOf(['no.jsonl', 'rows.jsonl', 'none/*.csv'])).catch(
      (error: { problems: unknown }) => error.problems,
    );
    expect(problems).toEqual([
      { path: 'data.sources[0]', message: expect.stringContaining('no.jsonl') },
      { path: 'data.sources[2]', message: expect.stringContaining('none/*.csv') },
    ]);
  });
});

test('of a Mamba `auto` adapts what can be adapted, and a list is refused what cannot', () => {
  const layer = 'backbone.layers.0.mixer';
  const weights = ['in_proj', 'x_proj', 'out_proj'].map((name) => ({
    name: `${layer}.${name}.weight`,
    shape: [64, 32],
  }));
  const shape = { ...llama8b(), kind: 'mamba', layers: 1, weights };
  expect(countParameters(shape, recipeOf({ lora: { rank: 8 } })).trainable).toBe(2 * 8 * (64 + 32));
  expect(problemsOf({ train: { lora: { targets: ['in_proj', 'out_proj'] } } }, { shape })).toEqual([
    { path: 'train.lora.targets', message: expect.stringMatching(/^names out_proj, .*leave it out$/) },
  ]);
});
