// The learning curve: even however long the training, true after steps that were done again, and the words for it; the time left.
import { describe, expect, test } from 'vitest';
import {
  describeLosses,
  describeValidations,
  sparkline,
  thinned,
  validationRows,
} from '../../src/contracts/learning-curve.ts';
import { createCurveKeeper, furthestCurve } from '../../src/trainer/learning-curve.ts';
import { createProgressMeter } from '../../src/trainer/progress.ts';

const step = (n: number, loss = 1 / n) => ({
  ...{ ev: 'step' as const, step: n, of: 5000, epoch: 0, loss, gradNorm: 2, learningRate: 0.1, tokens: n, seconds: 1 },
});
const metrics = (n: number, evalLoss: number) => ({ ev: 'metrics' as const, step: n, evalLoss });

function keeperOf(steps: number) {
  const keeper = createCurveKeeper(null);
  for (let n = 1; n <= steps; n++) keeper.observe(step(n));
  return keeper;
}

describe('what is kept', () => {
  test('the beginning of a long training stays as dense as its end', () => {
    const { steps } = keeperOf(5000).curve();
    expect(steps).toHaveLength(200);
    expect([steps[0]?.step, steps.at(-1)?.step]).toEqual([1, 5000]);
    const gaps = steps.slice(1).map((one, i) => one.step - (steps[i]?.step ?? 0));
    // The last points are not thinned yet.
    expect(Math.max(...gaps)).toBeLessThanOrEqual(64);
    expect(steps.filter((one) => one.step <= 2500).length).toBeGreaterThan(50);
  });

  test('a step that is done again takes the place of what was after it', () => {
    const keeper = keeperOf(9);
    keeper.observe(metrics(8, 3));
    keeper.observe(step(7, 0.5));
    keeper.observe(metrics(8, 4));
    const { steps, validations } = keeper.curve();
    expect(steps.map((one) => one.step)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(steps.at(-1)?.loss).toBe(0.5);
    expect(validations).toEqual([{ step: 8, loss: 4 }]);
  });

  test('the next attempt goes on from the one that reaches further', () => {
    const [near, far] = [keeperOf(3).curve(), keeperOf(6).curve()];
    expect(furthestCurve(near, null, far)).toBe(far);
    expect(furthestCurve(null)).toBeNull();
    const next = createCurveKeeper(far);
    next.observe(step(5));
    expect(next.curve().steps.map((one) => one.step)).toEqual([1, 2, 3, 4, 5]);
  });
});

describe('what is shown', () => {
  test('the best validation stands in the table however few rows it has', () => {
    const validations = Array.from({ length: 30 }, (_, i) => ({ step: 10 * (i + 1), loss: i === 16 ? 1 : 2 }));
    const rows = validationRows({ steps: keeperOf(300).curve().steps, validations }, 5);
    expect(rows.filter(({ isBest }) => isBest).map((row) => row.step)).toEqual([170]);
    expect(rows.length).toBeLessThanOrEqual(6);
    expect([rows[0]?.step, rows.at(-1)?.step]).toEqual([10, 300]);
  });

  test('the training loss beside a validation is the mean since the row before', () => {
    const steps = [1, 2, 3, 4].map((n) => step(n, n));
    const validations = [2, 4, 6].map((n) => ({ step: n, loss: 1 }));
    expect(validationRows({ steps, validations }, 10).map((row) => row.trainingLoss)).toEqual([1.5, 3.5, null]);
  });

  test('sentences', () => {
    const at = (n: number, loss: number) => ({ step: n, loss });
    expect(describeValidations([])).toBeNull();
    expect(describeValidations([at(5, 2), at(10, 1)])).toBe('1.000 at step 10, the best');
    expect(describeValidations([at(5, 1), at(10, 2)])).toBe('2.000 at step 10, best 1.000 at step 5');
    expect(describeLosses([step(1, 3), step(2, 1)], 8)).toBe('█▁ 3.000 → 1.000');
    expect(describeLosses([step(1)], 8)).toBeNull();
  });

  test('bars: the mean of neighbours where there are more values than columns', () => {
    expect([sparkline([], 5), sparkline([1], 5), sparkline([1, 1, 9, 9], 2), sparkline([0, 7], 9)]).toEqual([
      '',
      '▁',
      '▁█',
      '▁█',
    ]);
  });

  test('thinning keeps the first and the last', () => {
    expect(
      thinned(
        [1, 2, 3, 4, 5, 6, 7].map((n) => ({ step: n })),
        4,
      ).map((one) => one.step),
    ).toEqual([1, 3, 5, 7]);
    expect(thinned([{ step: 1 }], 1)).toEqual([{ step: 1 }]);
  });
});

test('the time left counts validations between the steps, and not what a death took', () => {
  const meter = createProgressMeter({ step: 0, highest: 0, curve: null });
  let nowMs = 0;
  const run = (from: number, to: number) => {
    for (let n = from; n <= to; n++) {
      // Every tenth step is followed by a validation of ten seconds.
      nowMs += n % 10 === 1 ? 11_000 : 1_000;
      meter.observe(step(n), nowMs);
    }
  };
  run(1, 101);
  expect(meter.progress()).toMatchObject({ step: 101, of: 5000, eta: '2 h 43 min' });
  nowMs += 3_600_000;
  const plan = { steps: 5000, rows: 1, trainableParameters: 1, totalParameters: 1, from: 101, source: 'warm' as const };
  meter.observe({ ev: 'plan', ...plan }, nowMs);
  run(102, 112);
  expect(meter.progress().eta).toBe('2 h 42 min');
});
