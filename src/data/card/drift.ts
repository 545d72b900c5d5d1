// How far the rows are from those of the dataset before: the population stability index of each distribution, and fields that came or went.
import type { Card } from '../../contracts/card.ts';
import type { Profile } from '../../contracts/profile.ts';
import { addCounts, wholeSample } from '../profile/row-sample.ts';
import type { CardInput } from './input.ts';

/** From here on a distribution is said to have moved: the usual reading of the index. */
const PSI_MAX = 0.2;
/** Rows that every bin is given besides its own, because an empty one has no logarithm (Jeffreys' prior). */
const ROWS_MORE = 0.5;
/** Buckets of lengths that are one bin: a doubling. */
const BUCKETS_A_BIN = 4;
/** Share of the sampled rows that must have a field before it is said to be new or missing: fewer may be chance. */
const FIELD_SHARE_MIN = 0.01;

type Bins = Record<string, number>;

export function describeDrift({ profile, previous, accounts, snapshot }: CardInput): Card['drift'] {
  if (previous === null) return null;
  const before = previous.profile;
  const distributions = [
    compare('row length', doublings(before.rowLengths), doublings(profile.rowLengths)),
    compare('answer length', doublings(before.answerLengths), doublings(profile.answerLengths)),
    compare('messages in a chat', before.turns, profile.turns),
    compare('order of roles', wholeSample(before.sample).rolePatterns, wholeSample(profile.sample).rolePatterns),
    compare('language', wholeSample(before.sample).languages, wholeSample(profile.sample).languages),
    compare(
      'source',
      bySource(before, previous.sources),
      bySource(
        profile,
        snapshot.sources.map(({ uri }) => uri),
      ),
    ),
    compare('label', before.labels, profile.labels),
    compare('split', previous.splits, accounts.splits),
  ].filter((one) => one !== null);
  return { against: previous.dataset, distributions, ...compareFields(before, profile) };
}

/** null where there is nothing to compare. */
function compare(name: string, before: Bins, after: Bins): NonNullable<Card['drift']>['distributions'][number] | null {
  const bins = Object.keys(addCounts(before, after));
  const [n, m] = [sum(before), sum(after)];
  if (n === 0 || m === 0 || bins.length < 2) return null;
  const psi = bins.reduce((total, bin) => {
    const p = ((after[bin] ?? 0) + ROWS_MORE) / (m + ROWS_MORE * bins.length);
    const q = ((before[bin] ?? 0) + ROWS_MORE) / (n + ROWS_MORE * bins.length);
    return total + (p - q) * Math.log(p / q);
  }, 0);
  const threshold = Math.max(PSI_MAX, chanceOf(bins.length, n, m));
  return { name, psi, threshold, drifted: psi > threshold };
}

/** What two samples of one distribution rarely exceed: with few rows the index is χ² ÷ (harmonic) size, here mean plus two deviations. */
function chanceOf(bins: number, n: number, m: number): number {
  const degrees = bins - 1;
  return (degrees + 2 * Math.sqrt(2 * degrees)) * (1 / n + 1 / m);
}

function doublings(histogram: number[]): Bins {
  const bins: Bins = {};
  for (const [bucket, n] of histogram.entries()) {
    const bin = Math.floor(bucket / BUCKETS_A_BIN);
    if (n > 0) bins[bin] = (bins[bin] ?? 0) + n;
  }
  return bins;
}

function bySource({ bySource }: Profile, uris: string[]): Bins {
  return Object.fromEntries(Object.entries(bySource).map(([i, { rows }]) => [uris[Number(i)] ?? i, rows]));
}

function compareFields(before: Profile, after: Profile): { newFields: string[]; missingFields: string[] } {
  const [old, now] = [wholeSample(before.sample), wholeSample(after.sample)];
  const isCommon = (count: number | undefined, rows: number) => (count ?? 0) > FIELD_SHARE_MIN * rows;
  const only = (a: typeof old, b: typeof old) =>
    Object.keys(a.fields)
      .filter((field) => isCommon(a.fields[field], a.rows) && b.fields[field] === undefined)
      .sort();
  return { newFields: only(now, old), missingFields: only(old, now) };
}

function sum(bins: Bins): number {
  return Object.values(bins).reduce((total, n) => total + n, 0);
}
