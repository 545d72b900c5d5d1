// What a reader of the data should look at before training: each one sentence with its number and what to do.

import type { Card } from '../../contracts/card.ts';
import type { HeldOutText } from '../../contracts/ranges.ts';
import { wholeSample } from '../profile/row-sample.ts';
import type { CardInput } from './input.ts';
import { rowsOf, sharedText } from './wording.ts';

/** Shares of the rows from which something is said. */
const ANSWER_SHARE_MAX = 0.05;
const REFUSAL_SHARE_MAX = 0.05;
const DROPPED_SHARE_MAX = 0.01;
const DUPLICATE_SHARE_MAX = 0.1;
const TEXT_FAULT_SHARE_MAX = 0.005;
/** Fewer rows say little about how good a model is. */
const HELD_OUT_ROWS_MIN = 20;

type Alert = Card['alerts'][number];

export function findAlerts(input: CardInput, drift: Card['drift']): Alert[] {
  return [
    ...rowAlerts(input),
    ...privacyAlerts(input),
    ...splitAlerts(input),
    ...textAlerts(input),
    ...driftAlerts(drift),
  ];
}

function rowAlerts({ accounts, warned, blocked }: CardInput): Alert[] {
  const { rowsIn, duplicates } = accounts;
  const dropped = Object.entries(accounts.dropped).sort((a, b) => b[1] - a[1]);
  const total = dropped.reduce((sum, [, n]) => sum + n, 0);
  return [
    // A gate's sentence says it already.
    ...alertIf(blocked === null && total > DROPPED_SHARE_MAX * rowsIn, 'dropped', () => {
      const [code, n] = dropped[0] as [string, number];
      return `${percent(total / rowsIn)} of the rows were dropped, most of them (${n}) as ${code}.`;
    }),
    ...alertIf(
      duplicates > DUPLICATE_SHARE_MAX * rowsIn,
      'duplicates',
      () => `${percent(duplicates / rowsIn)} of the rows are exact duplicates; look at how the source is made.`,
    ),
    ...Object.entries(warned).map(([code, n]) => ({
      code,
      sentence: `${rowsOf(n)} ${n === 1 ? 'was' : 'were'} kept in spite of ${code}.`,
    })),
  ];
}

function privacyAlerts({ pii, privacy }: CardInput): Alert[] {
  const found = Object.entries(pii).filter(([type, n]) => n > 0 && actionOf(privacy, type) === 'warn');
  if (found.length === 0) return [];
  const list = found.map(([type, n]) => `${n} ${type}`).join(', ');
  return [
    {
      code: 'pii',
      sentence: `Personal data or secrets stay in the rows (${list}); set \`data.privacy.action\` to mask.`,
    },
  ];
}

export function actionOf({ action, types }: CardInput['privacy'], type: string): string {
  return types[type as keyof typeof types] ?? action;
}

function splitAlerts({ accounts, leakage, nearFound }: CardInput): Alert[] {
  const small = (['validation', 'test'] as const).filter((split) => {
    const rows = accounts.splits[split];
    return rows > 0 && rows < HELD_OUT_ROWS_MIN;
  });
  const crossing = nearFound === null ? 0 : (leakage?.nearCrossing ?? 0);
  const text = leakage?.heldOutText ?? null;
  return [
    ...small.map((split) => ({
      code: `small_${split}`,
      sentence: `The split ${split} has ${rowsOf(accounts.splits[split])}, too few to tell a better model from a worse one; add rows or raise \`data.split.${split}\`.`,
    })),
    ...alertIf(
      crossing > 0,
      'near_crossing',
      () =>
        `${rowsOf(crossing)} of the training split ${crossing === 1 ? 'is' : 'are'} nearly the same as held-out ones; set \`data.nearDuplicates.action\` to drop.`,
    ),
    ...alertIf(
      text !== null && !text.dropped && text.shared > 0,
      'text_crossing',
      () =>
        `${sharedText(text as HeldOutText, accounts.leftOut ?? 0)}; set \`data.decontaminate.heldOut\` to quarantine to leave ${rowsOf(text?.trainRows ?? 0)} out of it.`,
    ),
  ];
}

function textAlerts({ profile }: CardInput): Alert[] {
  const sample = wholeSample(profile.sample);
  const common = Object.values(sample.answers).reduce((a, b) => (b.rows > a.rows ? b : a), { rows: 0, text: '' });
  const isCommon = common.rows > 1 && common.rows > ANSWER_SHARE_MAX * sample.rows;
  const share = (n: number) => (sample.rows === 0 ? 0 : n / sample.rows);
  return [
    ...alertIf(
      isCommon,
      'one_answer',
      () => `One answer stands in ${percent(common.rows / sample.rows)} of the rows: “${cut(common.text)}”.`,
    ),
    ...alertIf(
      profile.answerIsQuestion > 0,
      'answer_is_question',
      () => `In ${rowsOf(profile.answerIsQuestion)} the answer repeats the question word for word; take them out.`,
    ),
    ...alertIf(
      profile.emptySystem > 0,
      'empty_system',
      () => `${rowsOf(profile.emptySystem)} ${profile.emptySystem === 1 ? 'has' : 'have'} an empty system message.`,
    ),
    ...alertIf(
      share(sample.mojibake) > TEXT_FAULT_SHARE_MAX,
      'mojibake',
      () =>
        `${percent(share(sample.mojibake))} of the rows hold text that was read in the wrong encoding (“Ã©” for é); set \`data.rules: {mojibake: fix}\`.`,
    ),
    ...alertIf(
      share(sample.openFences) > TEXT_FAULT_SHARE_MAX,
      'open_fence',
      () => `${percent(share(sample.openFences))} of the answers end inside a code block: they may have been cut.`,
    ),
    ...alertIf(
      share(sample.refusals) > REFUSAL_SHARE_MAX,
      'refusals',
      () => `${percent(share(sample.refusals))} of the answers are refusals; the model will learn to refuse.`,
    ),
  ];
}

function driftAlerts(drift: Card['drift']): Alert[] {
  if (drift === null) return [];
  const moved = drift.distributions.filter(({ drifted }) => drifted).map(({ name }) => name);
  const fields = [
    ...drift.newFields.map((field) => `${field} is new`),
    ...drift.missingFields.map((field) => `${field} is missing`),
  ];
  return [
    ...alertIf(
      moved.length > 0,
      'drift',
      () => `Other than in the dataset before: ${moved.join(', ')}; look whether that is meant.`,
    ),
    ...alertIf(fields.length > 0, 'fields', () => `The fields of the rows have changed: ${fields.join(', ')}.`),
  ];
}

function alertIf(condition: boolean, code: string, sentence: () => string): Alert[] {
  return condition ? [{ code, sentence: sentence() }] : [];
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

function cut(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim();
  return line.length > 60 ? `${line.slice(0, 60)}…` : line;
}
