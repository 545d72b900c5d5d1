// A plan from facts: steps, time, cost, and every problem at once.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
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
import { sampleSources } from '../../src/plan/sample.ts';
import { planSteps } from '../../src/plan/steps.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
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
    ...{ shape: llama8b(), data: DATA, host: H100, probe: null, prices: null, speeds: [], problems: [], nowMs: 0 },
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

  test('the speed of the probe serves where there is no other', () => {
    const points = [{ rows: 1, bytes: 1, saveBytes: 1, tokens: 500, seconds: 2 }];
    expect(makePlan(facts({}, { probe: { points } })).time).toMatchObject({
      tokensPerSecond: 250,
      from: 'two short steps',
    });
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
    expect(found[1]?.message).toBe('must be at least the planned cost 5.83, got 3; raise it, or lower `train.epochs`');
    expect(problemsOf({ budget: { gpuHours: 2, deadline: '2h' } }, { speeds: [SPEED] })).toEqual([]);
  });

  test('a budget below the plan at the price of the table', () => {
    const prices = { date: '', gpus: [{ name: 'H100', memoryGiB: null, usdPerHour: 3.5 }] };
    const [found] = problemsOf({ budget: { costUsd: 3 } }, { speeds: [SPEED], prices });
    expect(found?.message).toBe('must be at least the planned cost 5.83, got 3; raise it, or lower `train.epochs`');
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
  test('a large source is cut at a row’s end, and the rest is reckoned by bytes', async () => {
    const line = `${JSON.stringify({ prompt: 'a', completion: 'b' })}\n`;
    writeFileSync(join(folder, 'rows.jsonl'), line.repeat(10_000));
    const { sources } = parseSpec({ name: 'a', data: { sources: [{ uri: join(folder, 'rows.jsonl') }] } }).data;
    const ctx = { examplesFolder: folder, readS3: async () => null };
    const store = createFileStore(join(folder, 'store'));
    expect((await sampleSources(store, sources, ctx)).factor).toBe(1);
    const part = await sampleSources(store, sources, ctx, undefined, 1000);
    const [entry] = part.snapshot.sources;
    expect(entry).toMatchObject({
      uri: join(folder, 'rows.jsonl'),
      sizeBytes: Math.floor(1000 / line.length) * line.length,
    });
    const one = await sampleSources(store, sources, ctx, undefined, 5);
    expect(one.snapshot.sources[0]?.sizeBytes).toBe(line.length);
    expect(part.factor).toBeCloseTo((10_000 * line.length) / (entry?.sizeBytes ?? 0), 5);
  });

  test('of many files each gives its share; how much a packed one holds is not known', async () => {
    mkdirSync(join(folder, 'in'));
    const line = `${JSON.stringify({ prompt: 'a', completion: 'b' })}\n`;
    writeFileSync(join(folder, 'in', 'a.jsonl'), line.repeat(1000));
    writeFileSync(join(folder, 'in', 'b.jsonl.gz'), gzipSync(line.repeat(10)));
    const { sources } = parseSpec({ name: 'a', data: { sources: [{ uri: join(folder, 'in') }] } }).data;
    const ctx = { examplesFolder: folder, readS3: async () => null };
    const store = createFileStore(join(folder, 'store'));
    const part = await sampleSources(store, sources, ctx, undefined, 2000);
    expect(part.snapshot.sources.map(({ newlines }) => newlines)).toEqual([[Math.floor(1000 / line.length)], [10]]);
    expect(part.factor).toBeGreaterThan(10);
    expect((await sampleSources(store, sources, ctx, undefined, 200)).factor).toBeNull();
  });
});
