// Shows the plan of a run and asks whether to start it. Only people are asked: scripts, pipes and CI go on.
import { createInterface } from 'node:readline/promises';
import type { AnnealClient } from '../client/connect.ts';
import type { Spec } from '../contracts/spec.ts';
import { planLocally } from './local-plan.ts';
import type { Output } from './output.ts';
import { problemLines, shortPlanLines } from './views/plan.ts';

export interface ConfirmOptions {
  yes?: boolean;
  json?: boolean;
}

/** Whether somebody sits there who can be asked. */
export function canAsk({ yes, json }: ConfirmOptions, output: Output): boolean {
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

/** Where the plan has problems, only a plain yes starts it. */
export async function confirmPlan(spec: Spec, output: Output): Promise<boolean> {
  const plan = await planLocally(spec, { probe: false, say: (line) => output.say(line) });
  for (const line of shortPlanLines(plan, output.width(), output.paint)) output.say(line);
  for (const line of problemLines(plan, output.width(), output.paint)) output.say(line);
  const isSound = plan.problems.length === 0;
  const answer = await ask(isSound ? 'Start it? [Y/n] ' : 'Start it all the same? [y/N] ');
  return answer === '' ? isSound : /^y(es)?$/i.test(answer);
}

/** `no` when the input ends. */
async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  const closed = new Promise<string>((resolve) => lines.once('close', () => resolve('no')));
  const answer = await Promise.race([lines.question(question), closed]);
  lines.close();
  return answer.trim();
}
