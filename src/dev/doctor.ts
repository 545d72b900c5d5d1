// `anneal doctor`: one finding per thing that must be right, each with what was found and what to do about it.
import { type Check, finding } from './check.ts';
import { checkMachine } from './machine-checks.ts';
import { checkSetUp } from './set-up-checks.ts';
import { readRunningStack } from './stack.ts';
import { checkRunningStack } from './stack-checks.ts';

export type { Check } from './check.ts';

export interface DoctorReport {
  ok: boolean;
  checks: Check[];
}

export async function doctor(options: { project: string; state: string }): Promise<DoctorReport> {
  const stack = readRunningStack(options.state);
  const groups = await Promise.all([
    checkMachine(options.project, stack !== null),
    checkSetUp(options.project),
    stack === null ? [noStack()] : checkRunningStack(stack),
  ]);
  const checks = groups.flat();
  return { ok: checks.every(({ ok }) => ok), checks };
}

function noStack(): Check {
  return finding('stack', true, 'not running; `anneal up` starts it', '');
}
