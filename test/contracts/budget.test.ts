// What a budget allows, and how a sweep's file is read.
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadSweep } from '../../src/cli/sweep-file.ts';
import {
  budgetProblem,
  deadlineAtMs,
  gpuSecondsMax,
  NO_BUDGET,
  reachedLimit,
  unpricedCostUsd,
} from '../../src/contracts/budget.ts';
import type { AnnealError } from '../../src/contracts/failure.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import { parseSweep } from '../../src/contracts/sweep.ts';
import { countKept, rank } from '../../src/workflows/policies/halving.ts';

const problemsOf = (parse: () => unknown): string[] => {
  try {
    parse();
    return [];
  } catch (error) {
    return (error as AnnealError).problems.map(({ path, message }) => `${path} ${message}`);
  }
};

describe('a budget', () => {
  test.each([
    ['90 min', 1_000 + 5_400_000],
    ['8h', 1_000 + 28_800_000],
    ['2.5d', 1_000 + 216_000_000],
    ['2027-01-31T18:00:00Z', Date.UTC(2027, 0, 31, 18)],
    ['2027-01-31T18:00+02:00', Date.UTC(2027, 0, 31, 16)],
    ['tomorrow', null],
    ['2027-01-31', null],
    ['2027-13-31T18:00:00Z', null],
    ['-1h', null],
  ])('deadline %s', (deadline, atMs) => {
    expect(deadlineAtMs(deadline, 1_000)).toBe(atMs);
  });

  test('the smaller of hours and cost counts', () => {
    expect(gpuSecondsMax(NO_BUDGET)).toBeNull();
    expect(gpuSecondsMax({ ...NO_BUDGET, gpuHours: 2 })).toBe(7_200);
    expect(gpuSecondsMax({ ...NO_BUDGET, gpuHours: 2, costUsd: 3, pricePerGpuHour: 3 })).toBe(3_600);
    // Until a price table has given the price.
    expect(gpuSecondsMax({ ...NO_BUDGET, costUsd: 3 })).toBeNull();
    expect(unpricedCostUsd({ ...NO_BUDGET, costUsd: 3 })).toBe(3);
    expect(unpricedCostUsd({ ...NO_BUDGET, costUsd: 3, pricePerGpuHour: 3 })).toBeNull();
  });

  test('is reached exactly where the training is told to stop', () => {
    for (const gpuHours of [0.1, 1 / 3, 40 / 3600, 0.7]) {
      const budget = { ...NO_BUDGET, gpuHours };
      const gpuSeconds = gpuSecondsMax(budget) as number;
      expect(reachedLimit(budget, { gpuSeconds, nowMs: 0, startedMs: 0 })).toContain('`budget.gpuHours`');
      expect(reachedLimit(budget, { gpuSeconds: gpuSeconds - 0.01, nowMs: 0, startedMs: 0 })).toBeNull();
    }
  });

  test('says what is wrong with it, in the spec too', () => {
    expect(budgetProblem({ ...NO_BUDGET, gpuHours: Number.NaN })).toMatchObject({ field: 'gpuHours' });
    expect(problemsOf(() => parseSpec({ budget: { deadline: 'soon', gpuHour: 1 }, queue: { priority: 6 } }))).toEqual([
      expect.stringMatching(/^budget\.deadline must be a time such as .* or 2d, got "soon"$/),
      expect.stringContaining('did you mean `gpuHours`?'),
      expect.stringMatching(/^queue\.priority /),
    ]);
    expect(problemsOf(() => parseSpec({ budget: { gpuHours: 0 } }))).toEqual([
      'budget.gpuHours must be more than 0, got 0',
    ]);
  });
});

describe('a sweep', () => {
  const spec = { name: 'rates', data: { sources: [{ uri: 'rows.jsonl' }] } };

  test('is every combination of its grid, over the first of which its data are prepared', () => {
    const grid = { 'train.learningRate': [0.1, 0.2], 'train.lora.rank': [4, 8] };
    const plan = parseSweep({ name: 'rates', spec, grid });
    expect(plan.trials).toEqual([
      { 'train.learningRate': 0.1, 'train.lora.rank': 4 },
      { 'train.learningRate': 0.1, 'train.lora.rank': 8 },
      { 'train.learningRate': 0.2, 'train.lora.rank': 4 },
      { 'train.learningRate': 0.2, 'train.lora.rank': 8 },
    ]);
    expect(plan.spec.train).toMatchObject({ learningRate: 0.1, lora: { rank: 4, alpha: 32 } });
    expect(plan).toMatchObject({ rungs: [0.25, 0.5], keep: 0.5, concurrent: 2 });
  });

  test('of the examples can be started', () => {
    const plan = parseSweep(loadSweep('examples/sweep.yaml', resolve('.')));
    expect(plan.trials).toHaveLength(4);
    expect(plan.spec.name).toBe('icd-chapters');
  });

  test.each([
    [{}, 'grid or `trials` must be given'],
    [{ grid: { 'train.seed': [1] }, trials: [{ 'train.seed': 1 }] }, 'grid or `trials` must be given'],
    [{ trials: [{ 'train.seed': 1 }, { 'train.seed': 1 }] }, 'trials must differ, got train.seed=1 twice'],
    [
      { grid: { 'train.seed': Array.from({ length: 9 }, (_, i) => i), 'train.epochs': [1, 2, 3, 4, 5, 6, 7, 8] } },
      'at most 64 trials',
    ],
    [{ trials: [{ 'train.seed': 1 }], rungs: [0.5, 0.25] }, 'rungs must ascend'],
    [{ trials: [{ 'train.learningRate': 7 }] }, 'spec.train.learningRate'],
    [{ trials: [{ 'data.sources': [] }] }, 'sources excepted'],
    [{ trials: [{ 'data.split.validation': 0 }] }, 'spec.data.split.validation must be above 0'],
    [{ trials: [{ 'train.seed': 1 }], extra: 1 }, 'extra'],
  ])('%j is refused', (more, problem) => {
    expect(problemsOf(() => parseSweep({ name: 'rates', spec, ...more })).join('; ')).toContain(problem);
  });
});

describe('halving', () => {
  test.each([
    [8, 0.5, false, 4],
    [5, 0.5, false, 3],
    [10, 0.3, false, 3],
    [1, 0.1, false, 1],
    [0, 0.5, false, 0],
    [7, 0.5, true, 1],
    [0, 0.5, true, 0],
  ])('of %d trials with keep %d (last: %s) %d go on', (trials, keep, isLast, kept) => {
    expect(countKept(trials, keep, isLast)).toBe(kept);
  });

  test('the smallest loss is best, the earlier of equals first, and no loss is no place', () => {
    const standings = [0.3, null, 0.1, 0.3].map((evalLoss, i) => ({ run: `t${i}`, evalLoss }));
    expect(rank(standings).map(({ run }) => run)).toEqual(['t2', 't0', 't3']);
  });
});
