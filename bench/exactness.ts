// The whole exactness matrix, as `anneal drill --matrix` runs it.
import { locateLocal } from '../src/cli/drill/local.ts';
import { runMatrix } from '../src/cli/drill/matrix.ts';
import { type BenchOptions, type BenchReport, show } from './report.ts';

const FULL = { cells: [], kills: 10 };
const QUICK = { cells: ['lora-dropout', 'terminal', 'sft-full-warm'], kills: 3 };

export async function run({ quick, signal, say }: BenchOptions): Promise<BenchReport> {
  const report = await runMatrix({
    ...locateLocal(),
    ...(quick ? QUICK : FULL),
    seed: 0,
    signal,
    onProgress: (_report, running) => {
      if (running !== '') say(running);
    },
  });
  return {
    title: 'Exactness matrix',
    json: report,
    columns: ['cell', 'kills', 'resumed', 'weights equal', 'logs equal'],
    rows: [
      ...report.cells.map((cell) => [
        cell.name,
        cell.kills,
        cell.resumed,
        show(cell.weightsEqual),
        show(cell.logsEqual),
      ]),
      ...report.controls.map(({ name, hole, different }) => [
        `${name}, hole \`${hole}\``,
        '',
        '',
        different ? 'no, as it must be' : 'yes: not seen',
        '',
      ]),
    ],
    notes: [
      `${report.exact} of ${report.total} cells are exact. Goal: all, and every control different.`,
      'Each cell: an undisturbed run beside one whose trainer (of a gang: all ranks, or one) is killed at random moments of a seed.',
    ],
  };
}
