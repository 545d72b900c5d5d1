// What a sweep is expected to take in all.
import { expect, test } from 'vitest';
import { NO_BUDGET } from '../../src/contracts/budget.ts';
import type { Plan } from '../../src/plan/plan.ts';
import { type Course, foreseeSweep } from '../../src/plan/sweep.ts';

const COURSE: Course = { rungs: [0.25, 0.5], counts: [4, 2], concurrent: 2 };
const planOf = (gpuHours: number | null, problems: Plan['problems'] = []): Plan =>
  ({ time: gpuHours === null ? null : { gpuHours, seconds: gpuHours * 3600 }, problems }) as Plan;
const foresee = (plans: Plan[], budget = {}) => foreseeSweep(plans, COURSE, { ...NO_BUDGET, ...budget }, 0);

test('four trials to the first rung, two to the second, one to its end', () => {
  const { gpuHours, seconds, problems } = foresee([planOf(1), planOf(3), planOf(2), planOf(2)]);
  // Trainings of two hours each: 4 × 25 % + 2 × 25 % + 50 %.
  expect(gpuHours).toBeCloseTo(4);
  // Two at once: 2 × 25 % + 1 × 25 % + 50 %.
  expect(seconds).toBeCloseTo(2.5 * 3600);
  expect(problems).toEqual([]);
});

test('a budget below that is refused, each limit by itself', () => {
  const plans = [planOf(2), planOf(2), planOf(2), planOf(2)];
  expect(foresee(plans, { gpuHours: 3, costUsd: 5, pricePerGpuHour: 2, deadline: '2h' }).problems).toEqual([
    { path: 'budget.gpuHours', message: 'must be at least the planned 4.00, got 3; raise it, or try fewer trials' },
    { path: 'budget.costUsd', message: 'must be at least the planned cost 8.00, got 5; raise it, or try fewer trials' },
    { path: 'budget.deadline', message: 'must be at least 150 min from now, got 2h; raise it, or try fewer trials' },
  ]);
  expect(foresee(plans, { gpuHours: 4 }).problems).toEqual([]);
});

test('the problems of trials are told once, and an unknown time is told, not guessed', () => {
  const problem = { path: 'data', message: 'is empty' };
  const { gpuHours, problems, notes } = foresee([planOf(null, [problem]), planOf(null, [problem])], { gpuHours: 1 });
  expect(gpuHours).toBeNull();
  expect(problems).toEqual([problem]);
  expect(notes).toHaveLength(1);
});
