// `anneal doctor`: one finding per thing that must be right, each with what was found and what to do about it.
import { type Check, finding } from './check.ts';
import { checkMachine } from './machine-checks.ts';
import { checkSetUp } from './set-up-checks.ts';
import { readRunningStack, type StackFile } from './stack.ts';
import { checkRunningStack } from './stack-checks.ts';

export type { Check } from './check.ts';

export interface DoctorReport {
  ok: boolean;
  checks: Check[];
}

export async function doctor(options: { project: string; state: string }): Promise<DoctorReport> {
  const stack = lookForStack(options.state);
  const isThere = stack !== null && 'supervisor' in stack;
  const groups = await Promise.all([
    checkMachine(options.state, isThere),
    checkSetUp(options.project),
    isThere ? checkRunningStack(stack) : [stack ?? noStack()],
  ]);
  const checks = groups.flat();
  return { ok: checks.every(({ ok }) => ok), checks };
}

/** What runs, nothing, or why that cannot be said. */
function lookForStack(state: string): StackFile | Check | null {
  try {
    return readRunningStack(state);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return finding('stack', false, 'its state cannot be read', message);
  }
}

function noStack(): Check {
  return finding('stack', true, 'not running; `anneal up` starts it', '');
}
