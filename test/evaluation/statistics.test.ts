// Intervals and p values beside numbers that are known.
import { describe, expect, test } from 'vitest';
import { bootstrapInterval, mcnemarPValue, pairedInterval, wilsonInterval } from '../../src/evaluation/statistics.ts';

describe('statistics, against published values', () => {
  test('Wilson interval', () => {
    const { low, high } = wilsonInterval(153, 200, 0.95);
    expect([low, high].map((x) => Number(x.toFixed(3)))).toEqual([0.702, 0.818]);
    expect(wilsonInterval(0, 0, 0.95)).toEqual({ low: 0, high: 1 });
  });

  test("Student's t with three degrees of freedom has the quantile 3.182", () => {
    const { mean, high } = pairedInterval([1, 2, 3, 4], 0.95);
    expect((high - mean) / Math.sqrt(5 / 3 / 4)).toBeCloseTo(3.182, 3);
  });

  test('McNemar: six of six discordant pairs one way have p = 1/32', () => {
    expect(mcnemarPValue(6, 0)).toBeCloseTo(1 / 32, 10);
    expect(mcnemarPValue(0, 0)).toBe(1);
  });

  test('the bootstrap is seeded and brackets the mean', () => {
    const differences = Array.from({ length: 100 }, (_, i) => (i % 4 === 0 ? 1 : 0));
    const once = bootstrapInterval(differences, 0.95);
    expect(once).toEqual(bootstrapInterval(differences, 0.95));
    expect(once.low).toBeLessThan(0.25);
    expect(once.high).toBeGreaterThan(0.25);
    expect(once.high - once.low).toBeCloseTo(2 * 1.96 * Math.sqrt((0.25 * 0.75) / 100), 1);
  });
});
