// The data card as Markdown: the same facts in the order in which people ask for them.
import type { Card, CardLengths } from '../../contracts/card.ts';
import { sourceNames } from '../source-names.ts';
import {
  count,
  LISTED_MAX,
  languageText,
  megabytes,
  percent,
  restText,
  rolesText,
  rowsOf,
  sharedText,
  speedText,
  VERDICTS,
  waterfallOf,
} from './wording.ts';

const EXAMPLES_MAX = 3;

export function renderMarkdown(card: Card): string {
  const { state, sentence } = card.verdict;
  return `${[
    `# Data card: ${plain(card.name)}`,
    `**${VERDICTS[state]}.** ${plain(sentence)}`,
    list(card.alerts.slice(state === 'warnings' ? 1 : 0).map((alert) => plain(alert.sentence))),
    '## From rows in to rows kept',
    waterfall(card),
    changes(card),
    ...(card.sources.length > 1 ? ['## Sources', sources(card)] : []),
    ...(card.codes.length > 0 ? ['## Why rows were dropped', codes(card)] : []),
    '## Splits',
    splits(card),
    leakage(card),
    '## Lengths',
    lengths(card),
    '## What is in the rows',
    content(card),
    '## Personal data and secrets',
    privacy(card),
    ...drift(card),
    ...mask(card),
    '## Lineage',
    lineage(card),
  ]
    .filter((part) => part !== '')
    .join('\n\n')}\n`;
}

/** A text that people wrote, on one line and with nothing in it that Markdown would take for its own. */
function plain(text: string): string {
  return text
    .replaceAll(/\s+/g, ' ')
    .trim()
    .replace(/[\\*_[\]<>#|~`]/g, '\\$&');
}

function code(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim().replaceAll('`', "'");
  return line === '' ? '(nothing)' : `\`${line}\``;
}

function list(lines: string[]): string {
  return lines.map((line) => `- ${line}`).join('\n');
}

function table(head: string[], rows: string[][]): string {
  const numbers = head.map((_, i) => (i === 0 ? '---' : '---:'));
  return [head, numbers, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function waterfall({ rows }: Card): string {
  const share = (n: number) => percent(rows.rowsIn === 0 ? 0 : n / rows.rowsIn);
  return table(
    ['', 'rows', 'share'],
    waterfallOf(rows).map(({ label, rows: n, kind }) => [
      kind === 'kept' ? `**${label}**` : label,
      `${kind === 'in' || kind === 'kept' ? '' : '− '}${count(n)}`,
      share(n),
    ]),
  );
}

/** What was done to rows that stay. */
function changes({ fixed, repeated, nearFound, rows }: Card): string {
  return list([
    ...Object.entries(fixed).map(([name, n]) => `mended: ${rowsOf(n)} with ${code(name)}`),
    ...(repeated > 0 ? [`added to the training split by weights of sources: ${rowsOf(repeated)}`] : []),
    ...(nearFound && rows.nearDuplicates === 0 ? [`nearly the same as another and kept: ${rowsOf(nearFound)}`] : []),
  ]);
}

function sources({ sources: all }: Card): string {
  const names = sourceNames(all);
  const rest = restText(all.length, 'sources');
  const shown = table(
    ['source', 'size', 'rows in', 'kept', 'duplicates', 'dropped', 'of the text'],
    all
      .slice(0, LISTED_MAX)
      .map(({ uri, sizeBytes, rowsIn, kept, duplicates, dropped, share }, i) => [
        plain(names[i] ?? uri),
        megabytes(sizeBytes),
        ...[rowsIn, kept, duplicates, Object.values(dropped).reduce((sum, n) => sum + n, 0)].map(count),
        percent(share),
      ]),
  );
  return rest === null ? shown : `${shown}\n\n${rest}`;
}

function codes({ codes: all }: Card): string {
  return all
    .map(({ code: name, rows, hint, examples }) =>
      [
        `### \`${name}\`: ${count(rows)}`,
        hint ?? '',
        list(examples.slice(0, EXAMPLES_MAX).map(({ message, preview }) => `${plain(message)} ${code(preview)}`)),
      ]
        .filter((part) => part !== '')
        .join('\n\n'),
    )
    .join('\n\n');
}

function splits({ splits: all }: Card): string {
  const text = (n: number | null) => (n === null ? '–' : count(n));
  return table(
    ['split', 'rows', 'tokens', 'learned'],
    all.map(({ name, rows, tokens, trainableTokens }) => [name, count(rows), text(tokens), text(trainableTokens)]),
  );
}

function leakage({ leakage: found, nearFound, rows: { leftOut } }: Card): string {
  if (found === null) return '';
  const { sharedGroups, sharedRows, nearCrossing, evals, heldOutText } = found;
  return list([
    sharedGroups === null ? 'groups in two splits: too many to count' : `groups in two splits: ${count(sharedGroups)}`,
    `rows in two splits: ${count(sharedRows)}`,
    nearFound === null
      ? 'near duplicates across splits: not looked for'
      : `training rows nearly the same as a held-out one: ${count(nearCrossing)}`,
    heldOutText === null
      ? 'words in a row that held-out rows share with training: not looked for'
      : sharedText(heldOutText, leftOut),
    ...evals.map(({ name, rows }) => `compared with ${plain(name)}: ${rowsOf(rows)} left training`),
  ]);
}

function lengths({ tokens, characters, answers, tooLong, packing }: Card): string {
  const line = (name: string, { p50, p95, p99, max }: CardLengths) => [
    name,
    ...[p50, p95, p99, max].map((n) => (n === null ? '–' : count(n))),
  ];
  const { maxLength, dropped, truncated, lostTokens, split, into, lostTurns } = tooLong;
  const over = `Longer than \`data.maxLength\` ${count(maxLength)}: ${count(dropped)} dropped, ${count(truncated)} cut by ${count(lostTokens)} tokens, ${count(split)} split into ${count(into)}, ${count(lostTurns)} turns fit nowhere.`;
  const packed =
    packing === null
      ? ''
      : `Packed to ${count(packing.room)} tokens an epoch has ${rowsOf(packing.rows)}, ${percent(packing.fill)} full.`;
  const rows = [
    ...(tokens === null ? [] : [line('tokens of a training row', tokens)]),
    line('characters of a row', characters),
    line('characters of an answer', answers),
  ];
  return [table(['', 'p50', 'p95', 'p99', 'max'], rows), over, packed].filter((part) => part !== '').join('\n\n');
}

function content({
  turns,
  rolePatterns,
  languages,
  systemPrompts,
  duplicateClusters,
  features,
  sampledRows,
}: Card): string {
  const top = (all: Card['languages'], text: (one: string) => string) =>
    all.map((one) => `${text(one.text)} ${percent(one.share)}`).join(', ');
  return list([
    `messages in a chat: ${Object.entries(turns)
      .map(([n, rows]) => `${n} × ${count(rows)}`)
      .join(', ')}`,
    `order of roles: ${top(rolePatterns, rolesText)}`,
    ...(languages.length > 0 ? [`languages, of ${count(sampledRows)} rows: ${top(languages, languageText)}`] : []),
    ...Object.entries(features).map(([name, rows]) => `rows with ${name}: ${count(rows)}`),
    ...systemPrompts.map(({ text, rows }) => `system message of ${rowsOf(rows)}: ${code(text)}`),
    ...duplicateClusters.map(({ text, rows }) => `stands there ${count(rows)} times: ${code(text)}`),
  ]);
}

function privacy({ pii }: Card): string {
  if (pii.length === 0) return 'None was found by the detectors.';
  return table(
    ['type', 'found', 'action'],
    pii.map(({ type, found, action }) => [type.replace('_', ' '), count(found), action]),
  );
}

function drift({ drift: found }: Card): string[] {
  if (found === null) return [];
  const rows = found.distributions.map(({ name, psi, threshold, drifted }) => [
    drifted ? `**${name}**` : name,
    psi.toFixed(3),
    threshold.toFixed(2),
  ]);
  const fields = [
    ...found.newFields.map((field) => `new: ${code(field)}`),
    ...found.missingFields.map((field) => `missing: ${code(field)}`),
  ];
  return [
    `## Against dataset ${found.against.slice(0, 12)}`,
    table(['distribution', 'PSI', 'limit'], rows),
    list(fields),
  ];
}

function mask({ sample }: Card): string[] {
  if (sample.length === 0) return [];
  const text = sample.map((piece) => (piece.trainable ? `⟦${piece.text}⟧` : piece.text)).join('');
  const fence = '`'.repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  return ['## One training row', `What stands in ⟦ ⟧ is learned.\n\n${fence}text\n${text}\n${fence}`];
}

function lineage(card: Card): string {
  const { sources: all, notes } = card;
  const { dataset, snapshot, rules, code: digest, tokenizer, template, workflow } = card.lineage;
  const speed = speedText(card);
  return list([
    ...(speed === null ? [] : [`prepared in ${speed.time}: ${speed.speed}`]),
    ...(dataset === null ? [] : [`dataset \`${dataset}\``]),
    `snapshot \`${snapshot}\``,
    `rules \`${rules}\``,
    `code \`${digest}\``,
    ...(tokenizer === null ? [] : [`tokenizer \`${tokenizer}\``]),
    ...(template === null ? [] : [`chat template \`${template}\``]),
    ...all
      .slice(0, LISTED_MAX)
      .map(
        ({ uri, sha256, etag }) => `source ${plain(uri)} \`${sha256}\`${etag === null ? '' : `, ETag ${code(etag)}`}`,
      ),
    ...(workflow === null ? [] : [`Temporal: <${workflow}>`]),
    ...notes.slice(0, LISTED_MAX).map(plain),
    ...[restText(all.length, 'sources'), restText(notes.length, 'notes')].filter((rest) => rest !== null),
  ]);
}
