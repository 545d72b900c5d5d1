// A sweep as a table of its trials. State in, lines out.
import type { SweepDescription } from '../../client/sweeps.ts';
import { describeSpent } from '../../contracts/budget.ts';
import type { SweepStatus, TrialStatus } from '../../contracts/status.ts';
import { cutTo, oneLine, type Paint, plural, table } from './format.ts';

export function sweepLines({ sweep, state, status, failure }: SweepDescription, width: number, paint: Paint): string[] {
  const colour = { running: paint.cyan, completed: paint.green }[state as string] ?? paint.red;
  const head = `${paint.bold(sweep)}  ${colour(state)}`;
  if (status === null) return [head, paint.yellow('No control worker answers.')];
  const titles = ['TRIAL', 'STATE', 'STEP', 'LOSS', 'CHANGES', 'WHY'].map((title) => paint.dim(title));
  const lines = [
    head,
    ...table([titles, ...status.trials.map((trial) => rowOf(trial, sweep, paint))], [2, 3]).map((line) => `  ${line}`),
    ...budgetLines(status),
    ...bestLines(status, paint),
    ...(status.asks ? [`  ${paint.yellow(oneLine(status.asks))}`] : []),
    ...(failure === null ? [] : [`  ${paint.red(oneLine(failure.message))}`]),
  ];
  return lines.map((line) => cutTo(line, width));
}

function budgetLines({ budget, trials }: SweepStatus): string[] {
  if (budget === undefined) return [];
  const used = trials.reduce((sum, { gpuSeconds = 0 }) => sum + gpuSeconds, 0);
  return [`  budget: ${describeSpent(budget, used)}`];
}

/** The trials' own numbers are those of their last rung; the winner went on. */
function bestLines({ winner, result }: SweepStatus, paint: Paint): string[] {
  if (winner === null) return [];
  const { step, evalLoss = null } = result?.training ?? {};
  const facts = [
    ...(step === undefined ? [] : [plural(step, 'step')]),
    ...(evalLoss === null ? [] : [`validation ${evalLoss.toFixed(4)}`]),
    ...(result?.version ? [`${result.model} version ${result.version}`] : []),
  ];
  return [`  best: ${paint.green(winner)}${facts.length === 0 ? '' : `, ${facts.join(', ')}`}`];
}

/** A trial is called by its number: the sweep's id stands above, and what all changes have in common says nothing. */
function rowOf({ run, state, step, evalLoss, changes, why }: TrialStatus, sweep: string, paint: Paint): string[] {
  const paints: Record<TrialStatus['state'], (text: string) => string> = {
    waiting: paint.dim,
    training: paint.cyan,
    paused: paint.yellow,
    held: paint.yellow,
    lost: paint.dim,
    won: paint.green,
    done: paint.green,
    failed: paint.red,
  };
  return [
    run.startsWith(`${sweep}-`) ? run.slice(sweep.length) : run,
    paints[state](state),
    step === null ? '' : String(step),
    evalLoss?.toFixed(4) ?? '',
    changes.replace(/(^|, )train\./g, '$1'),
    oneLine(why ?? ''),
  ];
}
