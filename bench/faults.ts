// Labelled faults, each a real process that misbehaves under the real supervision: is each classified right and met with the right action?
import { type FaultResult, runFaults } from '../test/support/fake-trainers/run.ts';
import { type BenchOptions, type BenchReport, round, show } from './report.ts';

const QUICK_FAULTS = 12;

export async function run({ quick, say }: BenchOptions): Promise<BenchReport> {
  const started = Date.now();
  const results = await runFaults(quick ? QUICK_FAULTS : undefined);
  say(`${results.length} faults in ${Math.round((Date.now() - started) / 1000)} s`);
  const share = (right: (result: FaultResult) => boolean) => results.filter(right).length / results.length;
  const isRight = ({ rightClass, rightAction, wasted }: FaultResult) => rightClass && rightAction && wasted <= 1;
  const rightClass = share((result) => result.rightClass);
  const rightAction = share((result) => result.rightAction);
  const mostWasted = Math.max(...results.map(({ wasted }) => wasted));
  return {
    title: 'Faults and what is done about them',
    json: {
      faults: results.length,
      rightClass: round(rightClass, 4),
      rightAction: round(rightAction, 4),
      mostWasted,
      wrong: results.filter((result) => !isRight(result)).map(({ name }) => name),
    },
    columns: ['faults', 'right class', 'right action', 'most retries of a deterministic failure that changed nothing'],
    rows: [[results.length, show(100 * rightClass, 1, '%'), show(100 * rightAction, 1, '%'), mostWasted]],
    notes: ['Goal: at least 97 % of both, and at most one wasted retry.'],
  };
}
