// How checked data, a quarantine and a card look on a terminal. Pure.
import type { QuarantinedRow } from '../../contracts/rows.ts';
import { hintOf } from '../../data/card/hints.ts';
import type { CheckedData, CheckedFile } from '../../data/check.ts';
import { cutTo, formatCount, oneLine, type Paint, plural, table, visibleWidth, wrap } from './format.ts';

/** Lines of a code that are named. */
const LINES_MAX = 3;
/** Columns that a note beside a line takes at least. */
const NOTE_MIN = 36;
const NOTE_INDENT = 6;

export function checkLines({ files, total, blocked, card }: CheckedData, width: number, paint: Paint): string[] {
  const { verdict, alerts } = card.json;
  const said = alerts.slice(verdict.state === 'warnings' ? 1 : 0).map(({ sentence }) => sentence);
  return [
    ...verdictLines(verdict.state, verdict.sentence, width, paint),
    ...said.flatMap((sentence) => noteLines(sentence, width)),
    '',
    ...filesTable(files, total, width, paint),
    ...files.flatMap((file) => codeLines(file, width, paint)),
    ...(blocked === null ? [] : ['', 'A run would stop here, before anything is trained.']),
  ];
}

function verdictLines(state: keyof typeof VERDICTS, sentence: string, width: number, paint: Paint): string[] {
  const { text, colour } = VERDICTS[state];
  return [paint.bold(paint[colour](text)), ...indent(wrap(sentence, width - 2))];
}

const VERDICTS = {
  pass: { text: 'PASS', colour: 'green' },
  warnings: { text: 'PASS with warnings', colour: 'yellow' },
  blocked: { text: 'BLOCKED', colour: 'red' },
} as const;

type Count = [title: string, count: (one: CheckedData['total']) => number];

const COUNTS: Count[] = [
  ['ROWS IN', (one) => one.rowsIn],
  ['KEPT', (one) => one.kept],
  ['DUPLICATES', (one) => one.duplicates],
  ['NEAR DUPLICATES', (one) => one.nearDuplicates],
  ['LEFT OUT', ({ leftOut = 0 }) => leftOut],
  ['DROPPED', (one) => sum(one.dropped)],
  ['PERSONAL DATA FOUND', (one) => sum(one.pii)],
];

/** Only where a source has a weight. */
function countsOf({ leftOut = 0 }: CheckedData['total']): Count[] {
  return COUNTS.filter(([title]) => title !== 'LEFT OUT' || leftOut > 0);
}

/** A line a file; where that has no room, a line for each count that is not 0. */
function filesTable(files: CheckedFile[], total: CheckedData['total'], width: number, paint: Paint): string[] {
  const all = [
    ...files.map((file) => ({ name: shortName(file.uri), one: file as CheckedData['total'] })),
    ...(files.length > 1 ? [{ name: paint.bold('all'), one: total }] : []),
  ];
  const counts = countsOf(total);
  const head = ['FILE', ...counts.map(([title]) => title)].map((title) => paint.dim(title));
  const rows = all.map(({ name, one }) => [name, ...counts.map(([, count]) => formatCount(count(one)))]);
  const lines = table(
    [head, ...rows],
    [...counts.keys()].map((i) => i + 1),
  );
  if (lines.every((line) => visibleWidth(line) <= width)) return lines;
  return all.flatMap(({ name, one }) => [cutTo(name, width), ...countLines(one, paint)]);
}

function countLines(one: CheckedData['total'], paint: Paint): string[] {
  const found = COUNTS.filter(([title, count]) => count(one) > 0 || title === 'ROWS IN' || title === 'KEPT');
  return table(
    found.map(([title, count]) => [`  ${paint.dim(title)}`, formatCount(count(one))]),
    [1],
  );
}

function codeLines({ uri, dropped, pii, firstBadLines }: CheckedFile, width: number, paint: Paint): string[] {
  const codes = Object.entries(dropped).sort((a, b) => b[1] - a[1]);
  const kept = Object.keys(firstBadLines).filter((code) => dropped[code] === undefined);
  if (codes.length + kept.length === 0 && sum(pii) === 0) return [];
  const ruleRow = (code: string, n: string) => ({
    cells: [`  ${code}`, n, linesText(firstBadLines[code])],
    note: hintOf(code) ?? '',
  });
  const rows = [
    ...codes.map(([code, n]) => ruleRow(code, formatCount(n))),
    ...kept.map((code) => ruleRow(code, 'kept')),
    ...Object.entries(pii).map(([type, n]) => ({
      cells: [`  ${type.replace('_', ' ')}`, formatCount(n), ''],
      note: 'personal data or a secret',
    })),
  ];
  const lines = table(
    rows.map(({ cells }) => cells),
    [1],
  );
  return ['', paint.bold(shortName(uri)), ...withNotes(lines, rows, width)];
}

/** Each line with its note, whole: below it, where there is no room beside. */
function withNotes(lines: string[], notes: { note: string }[], width: number): string[] {
  const column = Math.max(...lines.map(visibleWidth)) + 2;
  const isBeside = width - column >= NOTE_MIN;
  const before = isBeside ? column : NOTE_INDENT;
  return lines.flatMap((line, i) => {
    const wrapped = wrap(notes[i]?.note ?? '', width - before).map((note) => ' '.repeat(before) + note);
    if (!isBeside) return [cutTo(line, width), ...wrapped];
    const [first = '', ...rest] = wrapped;
    return [line + first.slice(visibleWidth(line)), ...rest];
  });
}

function linesText(lines: number[] = []): string {
  const shown = lines.slice(0, LINES_MAX);
  if (shown.length === 0) return '';
  return `line${shown.length === 1 ? '' : 's'} ${shown.join(', ')}${lines.length > shown.length ? ', …' : ''}`;
}

function shortName(uri: string): string {
  return decodeURIComponent(uri.slice(uri.lastIndexOf('/') + 1)) || uri;
}

export interface QuarantineView {
  rows: QuarantinedRow[];
  /** Rows of the dataset that were dropped; the quarantine may hold fewer. */
  dropped: number;
}

export function quarantineLines({ rows, dropped }: QuarantineView, width: number, paint: Paint): string[] {
  if (rows.length === 0) return [dropped === 0 ? 'No row was dropped.' : 'No row was dropped under this code.'];
  const shown = rows.flatMap((row) => [
    `${paint.bold(`${row.source}:${row.line}`)}  ${paint.yellow(row.code)}${row.path === '' ? '' : `  ${row.path}`}`,
    ...indent(wrap(sentenceOf(row), width - 2)),
    ...(row.preview === '' ? [] : [paint.dim(cutTo(`  ${oneLine(row.preview)}`, width))]),
  ]);
  return rows.length < dropped
    ? [...shown, '', `${formatCount(rows.length)} of ${plural(dropped, 'dropped row')}.`]
    : shown;
}

/** Without its place, which stands before it. */
function sentenceOf({ source, line, message }: QuarantinedRow): string {
  const place = `${source} line ${line}: `;
  return message.startsWith(place) ? message.slice(place.length) : message;
}

function noteLines(sentence: string, width: number): string[] {
  return wrap(sentence, width - 4).map((line, i) => `  ${i === 0 ? '·' : ' '} ${line}`);
}

function indent(lines: string[]): string[] {
  return lines.map((line) => `  ${line}`);
}

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((total, n) => total + n, 0);
}
