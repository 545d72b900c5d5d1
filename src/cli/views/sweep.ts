// A sweep as a table of its trials. State in, lines out.
import type { SweepDescription } from '../../client/sweeps.ts';
import type { TrialStatus } from '../../contracts/status.ts';
import { cutTo, oneLine, type Paint, table } from './format.ts';

export function sweepLines({ sweep, state, status, failure }: SweepDescription, width: number, paint: Paint): string[] {
  const colour = { running: paint.cyan, completed: paint.green }[state as string] ?? paint.red;
  const head = `${paint.bold(sweep)}  ${colour(state)}`;
  if (status === null) return [head, paint.yellow('No control worker answers.')];
  const titles = ['TRIAL', 'STATE', 'STEP', 'LOSS', 'CHANGES', 'WHY'].map((title) => paint.dim(title));
  const lines = [
    head,
    ...table([titles, ...status.trials.map((trial) => rowOf(trial, paint))], [2, 3]).map((line) => `  ${line}`),
    ...(status.winner === null ? [] : [`  best: ${paint.green(status.winner)}`]),
    ...(failure === null ? [] : [`  ${paint.red(oneLine(failure.message))}`]),
  ];
  return lines.map((line) => cutTo(line, width));
}

function rowOf({ run, state, step, evalLoss, changes, why }: TrialStatus, paint: Paint): string[] {
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
    run,
    paints[state](state),
    step === null ? '' : String(step),
    evalLoss?.toFixed(4) ?? '',
    changes,
    oneLine(why ?? ''),
  ];
}
