// The exactness matrix as a table, while it runs and afterwards.
import type { CellReport, MatrixReport } from '../drill/matrix.ts';
import { formatSeconds, type Paint, plural, table } from './format.ts';

/** @param running what is being trained, or nothing at the end. */
export function matrixLines(report: MatrixReport, running: string, paint: Paint): string[] {
  const titles = ['CELL', 'KILLS', 'RESUMED', 'WEIGHTS', 'LOGS', 'TOOK'].map((title) => paint.dim(title));
  const verdict = (isEqual: boolean) => (isEqual ? paint.green('equal') : paint.red('differ'));
  const cells = report.cells.map(({ name, kills, resumed, weightsEqual, logsEqual, seconds }: CellReport) => [
    name,
    String(kills),
    resumed > kills ? paint.red(String(resumed)) : String(resumed),
    verdict(weightsEqual),
    verdict(logsEqual),
    formatSeconds(seconds),
  ]);
  return [
    ...table([titles, ...cells], [1, 2, 5]),
    ...controlLines(report, paint),
    '',
    running === '' ? summary(report, paint) : `${report.cells.length} of ${report.total} done; now ${running}.`,
  ];
}

function controlLines({ controls }: MatrixReport, paint: Paint): string[] {
  if (controls.length === 0) return [];
  const rows = controls.map(({ name, hole, different }) => [
    name,
    hole,
    different ? paint.green('differs, as it must') : paint.red('the same: the matrix does not see it'),
  ]);
  return ['', ...table([['CONTROL', 'HOLE LEFT OPEN', 'OUTCOME'].map((title) => paint.dim(title)), ...rows])];
}

function summary({ exact, total, controls }: MatrixReport, paint: Paint): string {
  const text = `${exact} of ${total} cells are exact`;
  const unseen = controls.filter(({ different }) => !different).length;
  if (exact < total) return paint.red(`${text}.`);
  return unseen === 0
    ? paint.green(`${text}.`)
    : paint.red(`${text}, but ${plural(unseen, 'open hole was', 'open holes were')} not seen.`);
}
