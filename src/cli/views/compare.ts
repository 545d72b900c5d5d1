// Runs side by side: what differs in their specs, and what came of it. State in, lines out.
import type { RunState } from '../../client/description.ts';
import { bestValidation, describeLosses, type LearningCurve } from '../../contracts/learning-curve.ts';
import type { Spec } from '../../contracts/spec.ts';
import type { RunStatus } from '../../contracts/status.ts';
import { cutTo, formatCount, formatSeconds, type Paint, table } from './format.ts';

export interface Compared {
  run: string;
  state: RunState;
  startedAt: string;
  status: RunStatus;
  /** null where it cannot be read, which is why the run failed. */
  spec: Spec | null;
  /** Up to the newest checkpoint, or null. */
  curve: LearningCurve | null;
}

/** Columns of the line of losses: two runs fit on a terminal of 80. */
const CURVE_COLUMNS = 12;
/** Longest title that is not a field, `best validation`. */
const TITLE_WIDTH_MIN = 15;
/** Columns of a value where many runs share the terminal: less says nothing. */
const CELL_WIDTH_MIN = 12;
/** Columns between two. */
const GAP = 2;
const UNKNOWN = '-';

export function comparisonLines(runs: Compared[], width: number, paint: Paint): string[] {
  const fields = differences(runs);
  const titleWidth = Math.max(TITLE_WIDTH_MIN, ...Object.keys(fields).map((path) => path.length));
  const cellWidth = Math.max(CELL_WIDTH_MIN, Math.floor((width - titleWidth) / runs.length) - GAP);
  const line = (title: string, cells: (string | null)[]) => [
    paint.dim(title),
    ...cells.map((cell) => cutTo(cell ?? UNKNOWN, cellWidth)),
  ];
  const row = (title: string, cell: (run: Compared) => string | null) => line(title, runs.map(cell));
  const rows = [
    row('', ({ run }) => paint.bold(run)),
    row('state', ({ state }) => state),
    ...Object.entries(fields).map(([path, values]) => line(path, values)),
    row('steps', ({ curve }) => lastStep(curve)),
    row('loss', ({ curve }) => curve && describeLosses(curve.steps, CURVE_COLUMNS)),
    row('best validation', ({ curve }) => describeBest(curve)),
    row('right', ({ status }) => describeRight(status)),
    row('test loss', ({ status: { evaluation } }) => evaluation?.candidate.loss.toFixed(3) ?? null),
    row('gate', ({ status: { evaluation } }) => evaluation?.gate.verdict ?? null),
    row('train', ({ status }) => trainSeconds(status)),
    row('GPU hours', ({ status: { training, gpuSeconds } }) => hours(training?.gpuSeconds ?? gpuSeconds)),
  ];
  return table(rows.filter(([, ...cells]) => cells.some((cell) => cell !== UNKNOWN))).map((line) => cutTo(line, width));
}

/** Fields of the specs that are not the same in all, with each run's value as JSON; names are no difference. */
export function differences(runs: Pick<Compared, 'spec'>[]): Record<string, string[]> {
  const specs = runs.map(({ spec }) => fieldsOf(spec));
  const paths = [...new Set(specs.flatMap((fields) => [...fields.keys()]))];
  const found = paths.map((path) => [path, specs.map((fields) => fields.get(path) ?? UNKNOWN)] as const);
  return Object.fromEntries(found.filter(([path, values]) => path !== 'name' && new Set(values).size > 1));
}

function fieldsOf(value: unknown, path = ''): Map<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return new Map(path === '' ? [] : [[path, typeof value === 'string' ? value : JSON.stringify(value)]]);
  return new Map(
    Object.entries(value).flatMap(([key, below]) => [...fieldsOf(below, path === '' ? key : `${path}.${key}`)]),
  );
}

function lastStep(curve: LearningCurve | null): string | null {
  const last = curve?.steps.at(-1);
  return last === undefined ? null : formatCount(last.step);
}

function describeBest(curve: LearningCurve | null): string | null {
  const best = bestValidation(curve?.validations ?? []);
  return best && `${best.loss.toFixed(3)} at step ${formatCount(best.step)}`;
}

function describeRight({ evaluation }: RunStatus): string | null {
  const { match, likelier } = evaluation?.candidate ?? {};
  const right = match ?? likelier ?? evaluation?.rewards?.right;
  return right ? `${right.correct} of ${right.n}` : null;
}

function trainSeconds({ stages }: RunStatus): string | null {
  const seconds = stages.find(({ stage }) => stage === 'train')?.seconds ?? null;
  return seconds === null ? null : formatSeconds(seconds);
}

function hours(seconds: number | undefined): string | null {
  return seconds ? (seconds / 3600).toFixed(3) : null;
}
