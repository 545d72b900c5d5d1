// The drill's arithmetic: seeded moments, and what the trainer's events say that a kill cost.
import { expect, test } from 'vitest';
import { costOfKill, type TimedEvent } from '../../src/cli/drill/events.ts';
import { chooseMoments } from '../../src/cli/drill/moments.ts';

test('a seed repeats its moments; another seed gives others', () => {
  expect(chooseMoments(3, 40, 7)).toEqual(chooseMoments(3, 40, 7));
  expect(chooseMoments(3, 40, 8)).not.toEqual(chooseMoments(3, 40, 7));
});

test('kills are spread over the steps, one in each share, and leave steps to recover in', () => {
  for (let seed = 0; seed < 50; seed++) {
    const steps = chooseMoments(4, 40, seed).map((moment) => moment.afterStep);
    steps.forEach((step, i) => {
      expect(step).toBeGreaterThanOrEqual(Math.max(1, Math.floor(i * 9.5)));
      expect(step).toBeLessThanOrEqual((i + 1) * 9.5);
    });
  }
});

const step = (t: number, n: number): TimedEvent => ({ t, ev: 'step', step: n });

test('a trainer killed at step 7 that resumes from 5 loses 2 steps; steps done again are not new', () => {
  const before = [{ t: 0, ev: 'plan', from: 0 }, step(10, 6), step(20, 7)];
  const after = [{ t: 130, ev: 'plan', from: 5 }, step(140, 6), step(150, 7), step(160, 8)];
  expect(costOfKill([...before, ...after], 25, true)).toEqual({ atStep: 7, stepsLost: 2, nextNewStepMs: 135 });
  expect(costOfKill([...before, ...after.slice(0, 3)], 25, true)).toBeNull();
});

test('what the dying trainer had said already counts as done before', () => {
  const events = [step(20, 7), step(27, 8), { t: 130, ev: 'plan', from: 8 }, step(140, 9)];
  expect(costOfKill(events, 25, true)).toEqual({ atStep: 8, stepsLost: 0, nextNewStepMs: 115 });
  expect(costOfKill(events.slice(0, 2), 25, true)).toBeNull();
});

test('a server killed beside a trainer that goes on costs no step', () => {
  expect(costOfKill([step(20, 7)], 25, false)).toBeNull();
  expect(costOfKill([step(20, 7), step(32, 8)], 25, false)).toEqual({ atStep: 7, stepsLost: 0, nextNewStepMs: 7 });
});
