// The statistics of the gate: intervals and tests on counts and on paired differences. Pure.
import binomialCdf from '@stdlib/stats-base-dists-binomial-cdf';
import normalQuantile from '@stdlib/stats-base-dists-normal-quantile';
import studentQuantile from '@stdlib/stats-base-dists-t-quantile';
import { seededRandom } from './seeded-random.ts';

export interface Interval {
  low: number;
  high: number;
}

/** Wilson score interval of k of n (Wilson 1927). n = 0 gives [0, 1]: nothing is known. */
export function wilsonInterval(correct: number, n: number, confidence: number): Interval {
  if (n === 0) return { low: 0, high: 1 };
  const z = normalQuantile(0.5 + confidence / 2, 0, 1);
  const p = correct / n;
  const centre = p + (z * z) / (2 * n);
  const half = z * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
  const scale = 1 + (z * z) / n;
  return { low: Math.max(0, (centre - half) / scale), high: Math.min(1, (centre + half) / scale) };
}

/**
 * Interval of the mean of two independent proportions, from the Wilson interval of each: the distances to the limits add up by their
 * squares (Newcombe 1998, method 10).
 */
export function meanProportionInterval(
  a: { right: number; n: number },
  b: { right: number; n: number },
  confidence: number,
): Interval & { mean: number } {
  const [p, q] = [a.right / a.n, b.right / b.n];
  const [one, two] = [wilsonInterval(a.right, a.n, confidence), wilsonInterval(b.right, b.n, confidence)];
  const mean = (p + q) / 2;
  const below = Math.hypot(p - one.low, q - two.low) / 2;
  const above = Math.hypot(one.high - p, two.high - q) / 2;
  return { mean, low: mean - below, high: mean + above };
}

/** Interval of the mean of paired differences by Student's t. Fewer than two differences tell nothing: it is then infinite. */
export function pairedInterval(differences: number[], confidence: number): Interval & { mean: number } {
  const n = differences.length;
  const mean = meanOf(differences);
  if (n < 2) return { mean, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  const variance = differences.reduce((sum, d) => sum + (d - mean) ** 2, 0) / (n - 1);
  const half = studentQuantile(0.5 + confidence / 2, n - 1) * Math.sqrt(variance / n);
  return { mean, low: mean - half, high: mean + half };
}

const RESAMPLES = 10_000;

/** Percentile interval of the mean by resampling the pairs (Efron 1979), seeded by their number: the same input gives the same interval. */
export function bootstrapInterval(differences: number[], confidence: number): Interval & { mean: number } {
  const n = differences.length;
  const mean = meanOf(differences);
  if (n === 0) return { mean, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  const random = seededRandom(n);
  const means = Array.from({ length: RESAMPLES }, () => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += differences[Math.floor(random() * n)] as number;
    return sum / n;
  }).sort((a, b) => a - b);
  const at = (share: number) => means[Math.round(share * (RESAMPLES - 1))] as number;
  return { mean, low: at((1 - confidence) / 2), high: at((1 + confidence) / 2) };
}

/** Exact two-sided McNemar test: `gained` and `lost` are the discordant pairs. 1 when there are none. */
export function mcnemarPValue(gained: number, lost: number): number {
  const n = gained + lost;
  return n === 0 ? 1 : Math.min(1, 2 * binomialCdf(Math.min(gained, lost), n, 0.5));
}

function meanOf(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}
