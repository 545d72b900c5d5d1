// The plan of a sweep: of each of its trials, and of all of them together.
import { parseSpec } from '../contracts/spec.ts';
import { applyChanges, parseSweep, type SweepInput } from '../contracts/sweep.ts';
import type { Plan } from '../plan/plan.ts';
import { foreseeSweep, type SweepOutlook } from '../plan/sweep.ts';
import { countKept } from '../workflows/policies/halving.ts';
import { type LocalPlanOptions, withPlanner } from './local-plan.ts';

export interface PlannedSweep extends SweepOutlook {
  name: string;
  rungs: number[];
  trials: number;
  /** Of the first trial, which stands for the others where it is shown. */
  first: Plan;
}

/** @throws AnnealError `bad_request` where the sweep cannot be read. */
export async function planSweep(input: SweepInput, options: LocalPlanOptions): Promise<PlannedSweep> {
  const { name, rungs, keep, concurrent, budget, trials } = parseSweep(input);
  const plans = await withPlanner(options, async (planner) => {
    const made: Plan[] = [];
    for (const changes of trials) made.push(await planner.plan(parseSpec(applyChanges(input.spec, changes))));
    return made;
  });
  const counts: number[] = [];
  rungs.reduce((left, _, i) => {
    counts.push(left);
    return countKept(left, keep, i === rungs.length - 1);
  }, trials.length);
  const outlook = foreseeSweep(plans, { rungs, counts, concurrent }, budget, Date.now());
  return { name, rungs, trials: trials.length, first: plans[0] as Plan, ...outlook };
}

export function isSweep(input: unknown): input is SweepInput {
  return typeof input === 'object' && input !== null && ('grid' in input || 'trials' in input);
}
