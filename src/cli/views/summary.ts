// What a finished run is worth, in words: rows, before and after, the gate, examples. State in, lines out.
import { describeLosses, validationRows } from '../../contracts/learning-curve.ts';
import type { Evaluation, VariantScore } from '../../contracts/records.ts';
import type { Accounts } from '../../contracts/rows.ts';
import type { RunStatus } from '../../contracts/status.ts';
import { cutTo, formatCount, formatPercent, oneLine, type Paint, plural, table, wrap } from './format.ts';

const EXAMPLES_MAX = 3;
/** Columns of `Rows`, `Training`, `Model` and the space behind. */
const LABEL_WIDTH = 12;
/** Columns of the line of losses. */
const CURVE_COLUMNS = 40;
/** Validations that are shown, evenly spread. */
const VALIDATIONS_MAX = 10;
/** Shorter losses of time are not worth a word, seconds. */
const LOSS_SHOWN_S = 0.5;

export function summaryLines(status: RunStatus, width: number, paint: Paint): string[] {
  const lines: string[] = [];
  if (status.data) lines.push(...dataLines(status.data, status.card ?? null, width, paint), '');
  else if (status.card) lines.push(...refusedLines(status.card, status.run, paint), '');
  if (status.evaluation) lines.push(...evaluationLines(status.evaluation, width, paint), '');
  if (status.training) lines.push(...trainingLines(status.training, width, paint), '');
  if (status.version !== null) {
    const served = status.endpoint === null ? '' : `, served as ${paint.bold(status.endpoint)}`;
    lines.push(`${paint.bold('Model')}       ${status.model} version ${status.version}${served}`);
  }
  return lines;
}

/** Of data that a gate has refused. */
function refusedLines(card: string, run: string, paint: Paint): string[] {
  const quarantine = `\`anneal data quarantine show ${run}\` lists the dropped rows`;
  return [`${paint.bold('Data')}        card: ${card}`, ' '.repeat(LABEL_WIDTH) + quarantine];
}

function dataLines(data: Accounts, card: string | null, width: number, paint: Paint): string[] {
  const count = (n: number | undefined) => formatCount(n ?? 0);
  const dropped = Object.entries(data.dropped).filter(([, n]) => n > 0);
  const sum = dropped.reduce((all, [, n]) => all + n, 0);
  const codes = dropped.toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([code, n]) => `${code} ${n}`);
  const { train, validation, test } = data.splits;
  const near = data.nearDuplicates ? ` + ${count(data.nearDuplicates)} nearly doubled` : '';
  const left = data.leftOut ? ` + ${count(data.leftOut)} left out` : '';
  return [
    `${paint.bold('Rows')}        ${count(data.rowsIn)} read = ${count(data.kept)} kept + ${count(data.duplicates)} doubled${near}${left} + ${count(sum)} dropped`,
    ...[
      `kept: ${count(train)} train, ${count(validation)} validation, ${count(test)} test`,
      ...(codes.length > 0 ? wrap(`dropped: ${codes.join(', ')}`, width - LABEL_WIDTH) : []),
      ...(card ? [`card: ${card}`] : []),
    ].map((line) => ' '.repeat(LABEL_WIDTH) + line),
  ];
}

function trainingLines(training: NonNullable<RunStatus['training']>, width: number, paint: Paint): string[] {
  const share = formatPercent(training.trainableParameters / training.totalParameters);
  const recovered = training.recoveries ? `, recovered ${plural(training.recoveries, 'time')}` : '';
  const counts = `${formatCount(training.trainableParameters)} of ${formatCount(training.totalParameters)} parameters`;
  const [first = '', ...rest] = [
    `${plural(training.step, 'step')}, loss ${training.loss.toFixed(3)}, ${counts} (${share})${recovered}`,
    `goodput ${formatPercent(training.goodput.share)}${lossesOf(training.goodput)}`,
  ].flatMap((line) => wrap(line, width - LABEL_WIDTH));
  return [
    `${paint.bold('Training')}    ${first}`,
    ...[...rest, ...curveLines(training.curve, paint)].map((line) => ' '.repeat(LABEL_WIDTH) + line),
  ];
}

/** A record of an earlier release has no curve. */
function curveLines(curve: NonNullable<RunStatus['training']>['curve'], paint: Paint): string[] {
  if (curve === undefined) return [];
  const losses = describeLosses(curve.steps, CURVE_COLUMNS);
  const rows = validationRows(curve, VALIDATIONS_MAX);
  const hasAccuracy = rows.some(({ accuracy }) => accuracy !== undefined);
  const titles = ['step', 'training loss', 'validation loss', ...(hasAccuracy ? ['told right'] : []), ''];
  const cells = rows.map(({ step, trainingLoss, loss, accuracy, isBest }) => [
    formatCount(step),
    trainingLoss?.toFixed(3) ?? '',
    loss.toFixed(3),
    ...(hasAccuracy ? [accuracy === undefined ? '' : formatPercent(accuracy)] : []),
    isBest ? paint.green('best') : '',
  ]);
  return [
    ...(losses === null ? [] : [`loss ${losses}`]),
    ...(rows.length === 0 ? [] : table([titles.map((title) => paint.dim(title)), ...cells], [0, 1, 2, 3])),
  ];
}

/** Where the rest of the time went, the most first. */
function lossesOf({ lostSeconds }: NonNullable<RunStatus['training']>['goodput']): string {
  const lost = Object.entries(lostSeconds).filter(([, seconds]) => seconds >= LOSS_SHOWN_S);
  const told = lost.sort(([, a], [, b]) => b - a).map(([cause, seconds]) => `${cause} ${seconds.toFixed(1)} s`);
  return told.length === 0 ? '' : `; lost: ${told.join(', ')}`;
}

type Scores = Omit<Evaluation, 'predictions'>;

export function evaluationLines(evaluation: Scores, width: number, paint: Paint): string[] {
  return [
    `${paint.bold('Before and after')} on ${plural(evaluation.rows, 'held-out row')}`,
    ...scoreTable(evaluation, paint).map((line) => `  ${line}`),
    ...gateLines(evaluation.gate, width, paint),
    ...exampleLines(evaluation.examples, width, paint),
  ];
}

function scoreTable(scores: Scores, paint: Paint): string[] {
  const { base, control, candidate, gate, parent } = scores;
  const interval = `${Math.round(gate.confidence * 100)} % interval`;
  const row = (name: string, score: VariantScore) => {
    const right = rightOf(scores, score);
    return [
      name,
      right ? `${right.correct} of ${right.n}` : '-',
      right ? formatPercent(right.correct / right.n) : '-',
      right ? `${formatPercent(right.low)} to ${formatPercent(right.high)}` : '-',
      score.loss.toFixed(3),
    ];
  };
  return table(
    [
      ['', rightTitle(scores), '', interval, 'loss'].map((title) => paint.dim(title)),
      row(base.name === 'chance' ? 'chance' : 'untuned', base),
      ...(control ? [row(`untuned with ${plural(control.shots, 'example')} (control)`, control)] : []),
      ...(parent ? [row(`${parent.name}, which it continues`, parent)] : []),
      row('tuned', candidate).map((cell) => paint.bold(cell)),
    ],
    [1, 2, 3, 4],
  );
}

/** Right answers, or what comes nearest to them where the model was trained on preferences. Records of earlier releases have none. */
function rightOf({ candidate, rewards }: Scores, score: VariantScore): VariantScore['match'] | undefined {
  return score.match ?? score.likelier ?? (score === candidate ? rewards?.right : null);
}

function rightTitle({ base, rewards, matchKind }: Scores): string {
  if (rewards) return base.likelier ? 'chosen likelier' : 'right';
  return { exact: 'same text', json: 'same JSON', none: 'match' }[matchKind];
}

function gateLines(gate: Scores['gate'], width: number, paint: Paint): string[] {
  const verdict = gate.verdict === 'pass' ? paint.green(gate.verdict) : paint.red(gate.verdict);
  return [`  gate ${verdict}, against ${gate.against}`, ...wrap(gate.reason, width - 4).map((line) => `    ${line}`)];
}

function exampleLines(examples: Scores['examples'], width: number, paint: Paint): string[] {
  const answer = (text: string | null) => oneLine(text ?? '(not generated)') || '(nothing)';
  return examples
    .filter(({ before, after }) => before !== null || after !== null)
    .slice(0, EXAMPLES_MAX)
    .flatMap(({ prompt, before, after, correct }) => [
      '',
      `  ${paint.cyan('»')} ${oneLine(prompt)}`,
      `    ${paint.dim('before')}  ${answer(before)}`,
      `    ${paint.dim('after')} ${mark(correct, paint)} ${answer(after)}`,
    ])
    .map((line) => cutTo(line, width));
}

function mark(correct: boolean | null, paint: Paint): string {
  if (correct === null) return ' ';
  return correct ? paint.green('✓') : paint.red('✗');
}
