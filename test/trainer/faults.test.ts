// The corpus of labelled faults, each a real process that misbehaves under the real supervision.
import { beforeAll, describe, expect, test } from 'vitest';
import { FAULTS } from '../support/fake-trainers/corpus.ts';
import { type FaultResult, runFaults } from '../support/fake-trainers/run.ts';

describe('labelled faults', () => {
  let results: FaultResult[];
  beforeAll(async () => {
    results = await runFaults();
  }, 240_000);

  const wrong = (right: (result: FaultResult) => boolean) => results.filter((result) => !right(result));
  /** At most 3 in 100. */
  const few = Math.floor(FAULTS.length * 0.03);

  test('there are enough of them', () => {
    expect(FAULTS.length).toBeGreaterThanOrEqual(40);
    expect(new Set(FAULTS.map(({ name }) => name)).size).toBe(FAULTS.length);
  });

  test('at least 97 % are classified right', () => {
    const failures = wrong(({ rightClass }) => rightClass);
    expect(failures.length <= few ? [] : failures).toEqual([]);
  });

  test('at least 97 % are answered with the right action', () => {
    const failures = wrong(({ rightAction }) => rightAction);
    expect(failures.length <= few ? [] : failures).toEqual([]);
  });

  test('a deterministic failure is repeated at most once without a change', () => {
    expect(wrong(({ wasted }) => wasted <= 1)).toEqual([]);
  });

  test('every run that gets done ends at the same weights', () => {
    const done = results.filter(({ ends }) => ends === 'done');
    expect(done.length).toBeGreaterThan(FAULTS.length / 3);
    expect(new Set(done.map(({ weights }) => weights)).size).toBe(1);
  });
});
