// Reads a spec or a sweep before anything else happens: all problems at once, each with its path.
import { Context } from '@temporalio/activity';
import type { Spec } from '../contracts/spec.ts';
import { parseSpec } from '../contracts/spec.ts';
import type { CheckSpecInput } from '../contracts/stages.ts';
import { applyChanges, describeChanges, parseSweep, type SweepPlan, trialRun } from '../contracts/sweep.ts';
import { toFailure } from './stage.ts';

export async function checkSpec({ input }: CheckSpecInput): Promise<Spec> {
  try {
    return parseSpec(input);
  } catch (error) {
    throw toFailure(error);
  }
}

export interface CheckedSweep extends Omit<SweepPlan, 'trials'> {
  /** Ids follow from the sweep's. */
  trials: { run: string; changes: string; spec: unknown }[];
}

export async function checkSweep({ input }: { input: unknown }): Promise<CheckedSweep> {
  const sweep = Context.current().info.workflowExecution?.workflowId ?? '';
  try {
    const plan = parseSweep(input);
    const { spec } = input as { spec: unknown };
    const trials = plan.trials.map((changes, i) => ({
      run: trialRun(sweep, i),
      changes: describeChanges(changes),
      spec: applyChanges(spec, changes),
    }));
    return { ...plan, trials };
  } catch (error) {
    throw toFailure(error);
  }
}
