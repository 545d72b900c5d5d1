// The Markdown page of a sweep in the Web UI's "User Metadata" tab. Pure.
import { describeSpent } from '../contracts/budget.ts';
import type { SweepStatus, TrialStatus } from '../contracts/status.ts';
import { plain, table } from './markdown-table.ts';

const SIGNS: Record<TrialStatus['state'], string> = {
  waiting: '·',
  training: '▶',
  paused: '‖',
  held: '‖',
  lost: '–',
  won: '✓',
  done: '✓',
  failed: '✗',
};

export function renderSweepPage({ name, rungs, trials, winner, result, budget, asks }: SweepStatus): string {
  const at = rungs.map((rung) => `${Math.round(rung * 100)} %`).join(', ');
  return [
    `### ${name}`,
    `${trials.length} trials, compared by validation loss at ${at} of the steps.`,
    ...(budget === undefined ? [] : [`Budget: ${describeSpent(budget, gpuSecondsOf(trials))}.`]),
    ...(asks ? [`**It waits for you.** ${plain(asks)}`] : []),
    // The changes and reasons come last: only there may lines break.
    table(['trial', 'state', 'step', 'loss', 'what it changes'], trials.map(rowOf)),
    ...(winner === null
      ? []
      : [`**Best: ${link(winner, winner)}**${result === null ? ', on its way to its end' : ''}`]),
  ].join('\n\n');
}

function gpuSecondsOf(trials: TrialStatus[]): number {
  return trials.reduce((sum, { gpuSeconds = 0 }) => sum + gpuSeconds, 0);
}

function rowOf({ run, state, step, evalLoss, changes, why }: TrialStatus, i: number): string[] {
  return [
    link(`trial ${i + 1}`, run),
    `${SIGNS[state]} ${state}`,
    step === null ? '' : String(step),
    evalLoss?.toFixed(4) ?? '',
    `${changes
      .split(', ')
      .map((change) => `\`${change}\``)
      .join(', ')}${why === null ? '' : `: ${plain(why)}`}`,
  ];
}

/** The Web UI fills in the namespace. */
function link(text: string, run: string): string {
  return `[${text}](/namespaces/{namespace}/workflows/${run})`;
}
