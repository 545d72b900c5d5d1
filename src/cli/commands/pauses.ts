// `anneal pause`, `resume`, `budget`: what a run that trains is told, and by whom.
import { hostname, userInfo } from 'node:os';
import type { AnnealClient } from '../../client/connect.ts';
import { isOpen, type RunDescription } from '../../client/description.ts';
import type { Budget } from '../../contracts/budget.ts';
import type { GangSize } from '../../contracts/gang-size.ts';
import type { BudgetRequest } from '../../contracts/status.ts';
import { CliError, EXIT } from '../failures.ts';
import { createOutput, type Output } from '../output.ts';
import { withClient } from '../session.ts';
import { waitAndReport } from './run.ts';

interface Options {
  json?: boolean;
  wait?: boolean;
  reason?: string;
}

export interface BudgetOptions extends Options {
  keepWaiting?: boolean;
  gpuHours?: number;
  costUsd?: number;
  pricePerGpuHour?: number;
  deadline?: string;
}

export async function pause(run: string, options: Options): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client) => {
    await client.pauseRun(run, requestOf(options));
    output.say(`Run ${run} saves at its next step edge and frees its GPU; \`anneal resume ${run}\` goes on.`);
    if (!options.wait) {
      if (output.json) output.result({ run, status: 'pausing' });
      return EXIT.done;
    }
    return reportPause(await untilPaused(client, run), output);
  });
}

export interface ResumeOptions extends BudgetOptions, Partial<GangSize> {}

export async function resume(run: string, options: ResumeOptions): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withClient(async (client) => {
    const budget = budgetOf(options);
    const { hosts, processes } = options;
    const size = { ...(hosts && { hosts }), ...(processes && { processes }) };
    await client.resumeRun(run, { ...requestOf(options), ...(budget === null ? {} : { budget }), ...size });
    output.say(`Run ${run} goes on where it stopped: ${client.linkTo(run)}`);
    if (options.wait) return waitAndReport(client, run, output, options);
    if (output.json) output.result({ run, outcome: 'resumed', webUi: client.linkTo(run) });
    return EXIT.done;
  });
}

export async function budget(run: string, options: BudgetOptions): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const wanted = budgetOf(options);
  if (wanted === null) {
    const flags = '`--gpu-hours`, `--cost-usd`, `--price-per-gpu-hour` or `--deadline`';
    throw new CliError('usage', `Say what the budget of ${run} is: ${flags}.`, EXIT.usage);
  }
  return withClient(async (client) => {
    await client.setBudget(run, { ...requestOf(options), budget: wanted });
    output.say(`${(await client.isSweep(run)) ? 'Sweep' : 'Run'} ${run} has a new budget: ${JSON.stringify(wanted)}.`);
    if (output.json) output.result({ run, budget: wanted });
    return EXIT.done;
  });
}

function requestOf({ reason }: Options): BudgetRequest {
  return { by: caller(), ...(reason === undefined ? {} : { why: reason }) };
}

/** null where no flag is given. */
function budgetOf({ gpuHours, costUsd, pricePerGpuHour, deadline }: BudgetOptions): Partial<Budget> | null {
  const given = Object.entries({ gpuHours, costUsd, pricePerGpuHour, deadline }).filter(
    ([, value]) => value !== undefined,
  );
  return given.length === 0 ? null : (Object.fromEntries(given) as Partial<Budget>);
}

function caller(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    return hostname(); // a container's user may have no name
  }
}

async function untilPaused(client: AnnealClient, run: string): Promise<RunDescription> {
  for await (const description of client.watchRun(run)) {
    if (description.state === 'paused' || !isOpen(description.state)) return description;
  }
  throw new CliError('run_not_found', `Run ${run} ended without a word; \`anneal status ${run}\` says more.`);
}

function reportPause({ run, state, status }: RunDescription, output: Output): number {
  if (output.json) output.result({ run, status: state, paused: status.paused ?? null });
  else output.say(state === 'paused' ? `It is paused after step ${status.paused?.step ?? 0}.` : `It is ${state}.`);
  return state === 'paused' ? EXIT.done : EXIT.failed;
}
