// Shows the plan of a run before it is started. People are asked whether to; scripts, pipes and CI are refused what cannot work.
import { createInterface } from 'node:readline/promises';
import type { AnnealClient } from '../client/connect.ts';
import { AnnealError, type Problem } from '../contracts/failure.ts';
import type { Spec } from '../contracts/spec.ts';
import type { SweepInput } from '../contracts/sweep.ts';
import { planLocally } from './local-plan.ts';
import type { Output } from './output.ts';
import { planSweep } from './sweep-plan.ts';
import { problemLines, problemText, shortPlanLines, sweepPlanLines } from './views/plan.ts';

export interface ConfirmOptions {
  yes?: boolean;
  json?: boolean;
  /** false = start it without looking. */
  plan?: boolean;
}

/** Whether somebody sits there who can be asked. */
function canAsk({ yes, json }: ConfirmOptions, output: Output): boolean {
  return !yes && !json && output.isTerminal && process.stdin.isTTY === true && !process.env.CI;
}

/** Runs in these states are left as they are: there is nothing to ask. */
const LEFT_ALONE = ['running', 'paused', 'completed'];

export async function isStartedAnew(client: AnnealClient, run: string): Promise<boolean> {
  const described = await client.describeRun(run).catch((error: { kind?: string }) => {
    if (error.kind === 'run_not_found') return null;
    throw error;
  });
  return described === null || !LEFT_ALONE.includes(described.state);
}

/**
 * Whether it is to be started. Where the plan has problems, only a plain yes starts it.
 * @throws AnnealError `bad_request` with every problem, where nobody can be asked.
 */
export async function confirmPlan(spec: Spec, options: ConfirmOptions, output: Output): Promise<boolean> {
  const plan = await planLocally(spec, { probe: false, say: (line) => output.say(line) });
  for (const line of shortPlanLines(plan, output.width(), output.paint)) output.say(line);
  return await confirmSound(plan.problems, options, output);
}

/** @throws AnnealError `bad_request` as `confirmPlan`. */
export async function confirmSweep(input: SweepInput, options: ConfirmOptions, output: Output): Promise<boolean> {
  const plan = await planSweep(input, { probe: false, say: (line) => output.say(line) });
  for (const line of sweepPlanLines(plan, output.width(), output.paint)) output.say(line);
  return await confirmSound(plan.problems, options, output);
}

async function confirmSound(problems: Problem[], options: ConfirmOptions, output: Output): Promise<boolean> {
  const isSound = problems.length === 0;
  if (!canAsk(options, output)) {
    if (isSound) return true;
    // With several, only they are printed.
    if (problems.length > 1) output.say(WITHOUT_PLAN);
    throw refusal(problems);
  }
  for (const line of problemLines(problems, output.width(), output.paint)) output.say(line);
  const answer = await ask(isSound ? 'Start it? [Y/n] ' : 'Start it all the same? [y/N] ');
  return answer === '' ? isSound : /^y(es)?$/i.test(answer);
}

function refusal(problems: Problem[]): AnnealError {
  const lines = problems.map((problem) => problemText(problem).replace(/\.$/, ''));
  const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`;
  const message = `Nothing was started, because the plan has ${count}: ${lines.join('; ')}. ${WITHOUT_PLAN}`;
  return new AnnealError('bad_request', message, { problems });
}

const WITHOUT_PLAN = '`--no-plan` starts it without looking.';

/** `no` when the input ends. */
async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  const closed = new Promise<string>((resolve) => lines.once('close', () => resolve('no')));
  const answer = await Promise.race([lines.question(question), closed]);
  lines.close();
  return answer.trim();
}
