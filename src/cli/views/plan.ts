// How a plan looks on a terminal: all of it, or the few lines that `anneal run` shows before it asks. State in, lines out.
import type { Problem } from '../../contracts/failure.ts';
import { gib, type MemoryCheck } from '../../plan/memory-check.ts';
import type { Cost, Plan } from '../../plan/plan.ts';
import type { PlannedSweep } from '../sweep-plan.ts';
import { formatCount, formatPercent, formatSeconds, type Paint, plural, table, wrap } from './format.ts';

/** Columns of the labels and the space behind. */
const LABEL_WIDTH = 12;

export function planLines(plan: Plan, width: number, paint: Paint): string[] {
  return [
    ...shortPlanLines(plan, width, paint),
    ...(plan.memory ? partLines(plan.memory, width) : []),
    ...remedyLines(plan.memory, width),
    ...labelled('Strategy', plan.strategy?.why ?? null, width, paint),
    ...costLines(plan, paint),
    ...problemLines(plan.problems, width, paint),
  ];
}

/** Without what needs a second look. */
export function shortPlanLines(plan: Plan, width: number, paint: Paint): string[] {
  return [
    ...labelled('Plan', `${plan.name}: ${plan.method} of ${plan.base} by ${plan.tuning}`, width, paint),
    ...labelled('Data', dataText(plan), width, paint),
    ...plan.notes.flatMap((note) => indent(wrap(note, width - LABEL_WIDTH), LABEL_WIDTH)),
    ...labelled('Steps', stepText(plan), width, paint),
    ...labelled('Parameters', parameterText(plan), width, paint),
    ...labelled('Time', timeText(plan), width, paint),
    ...labelled('Memory', memoryText(plan), width, paint),
  ];
}

/** Of the first trial, and what all of them take. */
export function sweepPlanLines(sweep: PlannedSweep, width: number, paint: Paint): string[] {
  const { name, trials, rungs, first, gpuHours, seconds, notes } = sweep;
  const at = rungs.map((rung) => `${Math.round(rung * 100)} %`).join(', ');
  const takes =
    gpuHours === null || seconds === null
      ? null
      : `about ${formatSeconds(seconds)}, ${gpuHours.toPrecision(2)} GPU hours of training, as the best go on`;
  return [
    ...labelled('Sweep', `${name}: ${trials} trials, compared at ${at} of the steps`, width, paint),
    ...labelled('In all', takes, width, paint),
    ...notes.flatMap((note) => indent(wrap(note, width - LABEL_WIDTH), LABEL_WIDTH)),
    'The first trial:',
    ...shortPlanLines(first, width, paint),
  ];
}

export function problemLines(problems: Problem[], width: number, paint: Paint): string[] {
  if (problems.length === 0) return [];
  return [
    '',
    paint.red(problems.length === 1 ? 'One problem:' : `${problems.length} problems:`),
    ...problems.flatMap((problem) => indent(wrap(problemText(problem), width - 4), 2)),
  ];
}

/** Most messages go on where the path ends; others are sentences of their own, or name it themselves. */
export function problemText({ path: at, message }: Problem): string {
  const path = at || 'spec';
  const own = `\`${path}\` `;
  const rest = message.startsWith(own) ? message.slice(own.length) : message;
  return /^[A-Z]/.test(rest) ? `${path}: ${rest}` : `${path} ${rest}`;
}

function dataText({ data }: Plan): string | null {
  if (data === null) return null;
  const { rowsIn, kept, duplicates, splits, factor } = data;
  const { train, validation, test } = splits;
  const count = (n: number | undefined) => formatCount(n ?? 0);
  const dropped = Object.values(data.dropped).reduce((sum, n) => sum + n, 0);
  return [
    `${count(rowsIn)} rows: ${count(kept)} kept, ${count(duplicates)} doubled, ${count(dropped)} dropped.`,
    `${count(train?.rows)} train (${count(train?.tokens)} tokens, the longest row ${count(train?.longest)}),`,
    `${count(validation?.rows)} validate, ${count(test?.rows)} test.`,
    ...(factor === 1 ? [] : [sampleText(factor)]),
  ].join(' ');
}

function sampleText(factor: number | null): string {
  if (factor === null) return 'Counted in a part of the sources only; how much there is in all is not known.';
  return `Estimated from ${formatPercent(1 / factor)} of the bytes.`;
}

function stepText({ steps, data }: Plan): string | null {
  if (steps === null) return null;
  const atLeast = data?.factor === null ? 'at least ' : '';
  return `${atLeast}${formatCount(steps.total)} steps, ${formatCount(steps.perEpoch)} an epoch; ${plural(steps.effectiveBatch, 'row')} a step; ${formatCount(steps.tokens)} tokens in all`;
}

function parameterText({ parameters }: Plan): string | null {
  if (parameters === null) return null;
  const { trainable, total } = parameters;
  return `${formatCount(trainable)} of ${formatCount(total)} are trained (${formatPercent(trainable / total)})`;
}

function memoryText({ memory }: Plan): string | null {
  if (memory === null) return null;
  const { bytes, limitBytes, device, how, verdict, host } = memory;
  const whose = host === null ? '' : ` of host ${host}`;
  const place = device === 'gpu' ? `a GPU${whose} of` : `a process${whose}, which may have`;
  const known = how === 'probe' ? 'measured by short steps' : 'by arithmetic; `--probe` measures it';
  const fit = { fits: 'fits', tight: 'tight', too_large: 'too large' }[verdict];
  return `${fit}: ${gib(bytes)} for ${place} ${gib(limitBytes)} (${known})`;
}

function timeText({ time, steps, data }: Plan): string | null {
  if (steps === null) return null;
  if (time === null) return 'unknown: nothing like it has been trained on this stack yet; `--probe` measures two steps';
  const speed = `${formatCount(Math.round(time.tokensPerSecond))} tokens/s on ${time.device}, from ${time.from}`;
  return `${data?.factor === null ? 'at least' : 'about'} ${formatSeconds(time.seconds)} of training (${speed})`;
}

function partLines({ parts, how }: MemoryCheck, width: number): string[] {
  const told = Object.entries(parts).map(([name, bytes]) => `${name} ${gib(bytes)}`);
  const text = `${how === 'probe' ? 'by arithmetic: ' : ''}${told.join(', ')}`;
  return indent(wrap(text, width - LABEL_WIDTH), LABEL_WIDTH);
}

function remedyLines(memory: MemoryCheck | null, width: number): string[] {
  if (memory === null || memory.remedies.length === 0) return [];
  const told = memory.remedies.map(({ change, bytes }) => `${change} → ${gib(bytes)}`);
  return indent(wrap(`less with ${told.join('; ')}`, width - LABEL_WIDTH), LABEL_WIDTH);
}

function costLines({ costs, pricesOf }: Plan, paint: Paint): string[] {
  // Without data or a model there is nothing that could be priced.
  if (!costs.some(({ fits, seconds }) => fits !== null || seconds !== null)) return [];
  const title = ['', 'a GPU hour', 'fits', 'time', 'cost'].map((text) => paint.dim(text));
  return [
    ...['', `${paint.bold('Cost')}        by the price table of ${pricesOf}`],
    ...indent(table([title, ...costs.map(costRow)], [1, 3, 4]), 2),
  ];
}

function costRow({ gpu, count, usdPerHour, fits, seconds, usd }: Cost): string[] {
  return [
    count === 1 ? gpu : `${count} × ${gpu}`,
    `$${usdPerHour.toFixed(2)}`,
    fits === null ? '-' : { fits: 'yes', tight: 'tight', too_large: 'no' }[fits],
    seconds === null ? 'unknown' : formatSeconds(seconds),
    usd === null ? 'unknown' : `$${usd.toFixed(2)}`,
  ];
}

function labelled(label: string, text: string | null, width: number, paint: Paint): string[] {
  if (text === null) return [];
  const [first = '', ...rest] = wrap(text, width - LABEL_WIDTH);
  return [`${paint.bold(label)}${' '.repeat(LABEL_WIDTH - label.length)}${first}`, ...indent(rest, LABEL_WIDTH)];
}

function indent(lines: string[], by: number): string[] {
  return lines.map((line) => ' '.repeat(by) + line);
}
