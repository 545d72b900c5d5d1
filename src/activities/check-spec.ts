// Reads a spec or a sweep before anything else happens: all problems at once, each with its path. What no host of the pool has enough GPUs
// for is one of them.
import { Context } from '@temporalio/activity';
import { AnnealError, type Problem } from '../contracts/failure.ts';
import type { Spec } from '../contracts/spec.ts';
import { parseSpec } from '../contracts/spec.ts';
import type { CheckSpecInput } from '../contracts/stages.ts';
import { applyChanges, describeChanges, parseSweep, type SweepPlan, trialRun } from '../contracts/sweep.ts';
import { lackOfGpus } from '../plan/pool-hosts.ts';
import { findHosts } from './pool-hosts.ts';
import { toFailure } from './stage.ts';

export async function checkSpec({ input }: CheckSpecInput): Promise<Spec> {
  try {
    const spec = parseSpec(input);
    requireSound('spec', spec.train.processes > 1 ? lackOfGpus(await findHosts(), spec.train) : []);
    return spec;
  } catch (error) {
    throw toFailure(error);
  }
}

function requireSound(what: string, problems: Problem[]): void {
  if (problems.length === 0) return;
  const lines = problems.map(({ path, message }) => `\`${path}\` ${message}`);
  throw new AnnealError('bad_request', `The ${what} cannot be trained here: ${lines.join('; ')}.`, { problems });
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
