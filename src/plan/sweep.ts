// What a sweep will take in all, from the plans of its trials. Pure.
import { type Budget, isBounded } from '../contracts/budget.ts';
import type { Problem } from '../contracts/failure.ts';
import { budgetProblems, type Plan } from './plan.ts';

export interface Course {
  /** Shares of the steps, ascending. */
  rungs: number[];
  /** Trials that train to each rung. After the last one goes on. */
  counts: number[];
  /** Trials that train at once. */
  concurrent: number;
}

export interface SweepOutlook {
  /** null where the speed of no trial is known. */
  gpuHours: number | null;
  seconds: number | null;
  /** Every problem of every trial once, and those with the sweep's own budget. */
  problems: Problem[];
  notes: string[];
}

/** Which trials go on is not known: each counts as the mean of all. */
export function foreseeSweep(plans: Plan[], course: Course, budget: Budget, nowMs: number): SweepOutlook {
  const times = plans.flatMap(({ time }) => (time === null ? [] : [time]));
  const mean = (of: (time: (typeof times)[number]) => number) =>
    times.length === 0 ? null : times.reduce((sum, time) => sum + of(time), 0) / times.length;
  const gpuHours = scaled(
    mean((time) => time.gpuHours),
    trainingsOf(course, 1),
  );
  const seconds = scaled(
    mean((time) => time.seconds),
    trainingsOf(course, course.concurrent),
  );
  const problems = plans.flatMap((plan) => plan.problems);
  const known = new Map(problems.map((problem) => [JSON.stringify(problem), problem]));
  const isUnknown = isBounded(budget) && (gpuHours === null || seconds === null);
  return {
    ...{ gpuHours, seconds },
    problems: [
      ...known.values(),
      ...(gpuHours === null || seconds === null
        ? []
        : budgetProblems(budget, { gpuHours, seconds, pricePerGpuHour: budget.pricePerGpuHour ?? 0 }, nowMs, FEWER)),
    ],
    notes: isUnknown
      ? ['Whether the sweep’s budget is enough is not known: nothing tells yet how long this takes.']
      : [],
  };
}

const FEWER = 'try fewer trials';

/** How many whole trainings all of it is, where so many trials share a turn. */
function trainingsOf({ rungs, counts }: Course, atOnce: number): number {
  const legs = rungs.map((rung, i) => Math.ceil((counts[i] ?? 0) / atOnce) * (rung - (rungs[i - 1] ?? 0)));
  return legs.reduce((sum, leg) => sum + leg, 1 - (rungs.at(-1) ?? 0));
}

function scaled(mean: number | null, by: number): number | null {
  return mean === null ? null : mean * by;
}
