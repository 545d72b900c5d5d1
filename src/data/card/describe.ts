// Makes the card's facts of what was counted. Pure; the sums are asserted.
import type { Card, CardBook, CardLengths } from '../../contracts/card.ts';
import { AnnealError } from '../../contracts/failure.ts';
import { PII_TYPES } from '../../contracts/privacy-rules.ts';
import type { SampledTexts, SampleLevel } from '../../contracts/profile.ts';
import { type Accounts, type QuarantinedRow, SPLITS } from '../../contracts/rows.ts';
import { showUri } from '../../contracts/source-uri.ts';
import { redactPreview } from '../privacy/redact.ts';
import { bucketStart, quantileOf } from '../profile/log-buckets.ts';
import { mergeExamples } from '../profile/profile.ts';
import { wholeSample } from '../profile/row-sample.ts';
import { actionOf, findAlerts } from './alerts.ts';
import { describeDrift } from './drift.ts';
import { hintOf } from './hints.ts';
import type { CardInput } from './input.ts';

const TOP_MAX = 10;

export function describeCard(input: CardInput): Card {
  const { accounts, profile, tokens } = input;
  const drift = describeDrift(input);
  const alerts = findAlerts(input, drift);
  const sample = wholeSample(profile.sample);
  return {
    v: 1,
    ...{ name: input.name, run: input.run, method: input.method },
    verdict: decideVerdict(input.blocked, alerts, accounts),
    alerts,
    rows: bookOf('all sources', accounts),
    repeated: accounts.repeated ?? 0,
    ...{ fixed: input.fixed, warned: input.warned, nearFound: input.nearFound },
    sources: describeSources(input),
    codes: describeCodes(input),
    splits: describeSplits(input),
    leakage: input.leakage,
    characters: lengthsOf(profile.rowLengths),
    answers: lengthsOf(profile.answerLengths),
    tokens: tokens?.splits.train?.histogram ? tokenLengths(tokens.splits.train) : null,
    tooLong: describeTooLong(input),
    packing: input.packing,
    turns: profile.turns,
    rolePatterns: sharesOf(sample.rolePatterns, sample.rows),
    systemPrompts: textsOf(sample.systemPrompts, sample.rows),
    topAnswers: textsOf(sample.answers, sample.rows).filter(({ rows }) => rows > 1),
    duplicateClusters: describeClusters(input, sample),
    languages: sharesOf(sample.languages, sample.rows),
    sampledRows: sample.rows,
    features: featuresOf(input),
    pii: describePii(input),
    drift,
    sample: (tokens?.sample ?? []).map(({ text, trainable }) => ({ text: redactPreview(text), trainable })),
    ...{ dropColumns: input.dropColumns, notes: input.notes },
    lineage: describeLineage(input),
  };
}

function decideVerdict(blocked: string | null, alerts: Card['alerts'], { kept }: Accounts): Card['verdict'] {
  if (blocked !== null) return { state: 'blocked', sentence: blocked };
  const first = alerts[0];
  if (first !== undefined) return { state: 'warnings', sentence: first.sentence };
  return { state: 'pass', sentence: `${kept} rows are ready to train on.` };
}

type Countable = Pick<Accounts, 'rowsIn' | 'kept' | 'duplicates' | 'dropped' | 'nearDuplicates' | 'leftOut'>;

/** @throws AnnealError `trainer_bug` when the rows do not add up. */
function bookOf(
  name: string,
  { rowsIn, kept, duplicates, nearDuplicates = 0, leftOut = 0, dropped }: Countable,
): CardBook {
  const out = kept + duplicates + nearDuplicates + leftOut + sum(Object.values(dropped));
  if (out !== rowsIn)
    throw new AnnealError(
      'trainer_bug',
      `The data card does not add up: ${name} have ${rowsIn} rows, of which ${out} are accounted for; report it.`,
    );
  return { rowsIn, kept, duplicates, nearDuplicates, leftOut, dropped };
}

function describeSources({ accounts, snapshot, profile }: CardInput): Card['sources'] {
  const texts = accounts.bySource.map(({ kept, repeated = 0 }, i) => {
    const { rows, characters } = profile.bySource[i] ?? { rows: 0, characters: 0 };
    return rows === 0 ? 0 : (characters / rows) * (kept + repeated);
  });
  const allTexts = sum(texts);
  return accounts.bySource.map((book, i) => {
    const source = snapshot.sources[i];
    return {
      ...bookOf(book.uri, book),
      uri: showUri(book.uri),
      sizeBytes: source?.sizeBytes ?? 0,
      format: source?.format ?? '',
      converted: source?.converted ?? null,
      sha256: source?.sha256 ?? '',
      etag: source?.etag ?? null,
      share: allTexts === 0 ? 0 : (texts[i] as number) / allTexts,
    };
  });
}

function describeCodes({ accounts, profile, rejected }: CardInput): Card['codes'] {
  const examples = mergeExamples([profile.examples, ...rejected.map((row) => ({ [row.code]: [row] }))]);
  return sorted(accounts.dropped).map(([code, rows]) => ({
    ...{ code, rows, share: accounts.rowsIn === 0 ? 0 : rows / accounts.rowsIn, hint: hintOf(code) },
    examples: (examples[code] ?? []) as QuarantinedRow[],
  }));
}

function describeSplits({ accounts, tokens }: CardInput): Card['splits'] {
  return SPLITS.map((name) => ({
    name,
    rows: accounts.splits[name],
    tokens: tokens?.splits[name]?.tokens ?? null,
    trainableTokens: tokens?.splits[name]?.trainableTokens ?? null,
  }));
}

const NOTHING_CUT = { truncated: 0, lostTokens: 0, split: { rows: 0, into: 0 }, lostTurns: 0 };

function describeTooLong({ accounts, tokens, maxLength }: CardInput): Card['tooLong'] {
  const { truncated, lostTokens, split, lostTurns } = tokens?.cut ?? NOTHING_CUT;
  return {
    maxLength,
    dropped: accounts.dropped.too_long ?? 0,
    ...{ truncated, lostTokens, split: split.rows, into: split.into, lostTurns },
  };
}

function lengthsOf(histogram: number[]): CardLengths {
  const max = histogram.length === 0 ? null : Math.round(bucketStart(histogram.length) - 1);
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map((share) => quantileOf(histogram, share)) as [number, number, number];
  return { histogram, p50, p95, p99, max };
}

function tokenLengths({ histogram = [], longest }: { histogram?: number[] | undefined; longest: number }): CardLengths {
  const { p50, p95, p99 } = lengthsOf(histogram);
  const atMost = (n: number | null) => (n === null ? null : Math.min(n, longest));
  return { histogram, p50: atMost(p50), p95: atMost(p95), p99: atMost(p99), max: longest };
}

function textsOf(texts: SampledTexts, rows: number): Card['systemPrompts'] {
  return Object.values(texts)
    .sort((a, b) => b.rows - a.rows || (a.text < b.text ? -1 : 1))
    .slice(0, TOP_MAX)
    .map((one) => ({ ...one, share: one.rows / rows }));
}

/** Scaled to all rows where only some were looked at. */
function describeClusters({ profile }: CardInput, sample: SampleLevel): Card['duplicateClusters'] {
  return Object.entries(sample.copies)
    .filter(([, { rows }]) => rows > 1)
    .sort(([a, { rows: n }], [b, { rows: m }]) => m - n || (a < b ? -1 : 1))
    .slice(0, TOP_MAX)
    .map(([id, { rows, text }]) => ({ id, text, rows: Math.round((rows * profile.rows) / sample.rows) }));
}

function sharesOf(counts: Record<string, number>, rows: number): Card['languages'] {
  return sorted(counts)
    .slice(0, TOP_MAX)
    .map(([text, n]) => ({ text, rows: n, share: n / rows }));
}

function featuresOf({ profile }: CardInput): Card['features'] {
  const { withSystem, withTools, withToolCalls, withReasoning, withMedia, withUntrained, labels } = profile;
  const features = {
    'a system message': withSystem,
    'tool definitions': withTools,
    'tool calls': withToolCalls,
    'written reasoning': withReasoning,
    images: withMedia,
    'answers that are not trained on': withUntrained,
    'a wanted answer': labels.wanted,
    'an unwanted answer': labels.unwanted,
  };
  return Object.fromEntries(Object.entries(features).filter(([, n]) => n > 0));
}

function describePii({ pii, privacy }: CardInput): Card['pii'] {
  return PII_TYPES.map((type) => ({ type, found: pii[type] ?? 0, action: actionOf(privacy, type) })).filter(
    ({ found }) => found > 0,
  );
}

function describeLineage(input: CardInput): Card['lineage'] {
  const { dataset, snapshot, rules, code, tokens, seconds, workflow } = input;
  const megabytes = sum(snapshot.sources.map(({ sizeBytes }) => sizeBytes)) / 1e6;
  return {
    ...{ dataset, snapshot: snapshot.digest, rules, code, seconds, workflow },
    tokenizer: tokens?.tokenizerSha256 ?? null,
    template: tokens?.templateSha256 ?? null,
    megabytesPerSecond: seconds === null || seconds === 0 ? null : megabytes / seconds,
  };
}

function sorted(counts: Record<string, number>): [string, number][] {
  return Object.entries(counts).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
}

function sum(numbers: number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
