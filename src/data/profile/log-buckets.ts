// Histograms of lengths in buckets that are 19 % wide: bucket b counts 2^(b/4) ≤ n < 2^((b+1)/4). They merge by adding.

const PER_DOUBLING = 4;

export function bucketOf(n: number): number {
  return n < 2 ? 0 : Math.floor(PER_DOUBLING * Math.log2(n));
}

/** Least length of the bucket. */
export function bucketStart(bucket: number): number {
  return 2 ** (bucket / PER_DOUBLING);
}

export function countLength(histogram: number[], n: number): void {
  const bucket = bucketOf(n);
  while (histogram.length <= bucket) histogram.push(0);
  histogram[bucket] = (histogram[bucket] as number) + 1;
}

export function mergeHistograms(histograms: number[][]): number[] {
  const longest = histograms.reduce((most, { length }) => Math.max(most, length), 0);
  return Array.from({ length: longest }, (_, b) => histograms.reduce((sum, one) => sum + (one[b] ?? 0), 0));
}

/** The length that this share of the rows does not exceed, to within half a bucket; null of none. */
export function quantileOf(histogram: number[], share: number): number | null {
  const rows = histogram.reduce((sum, n) => sum + n, 0);
  if (rows === 0) return null;
  let below = 0;
  for (const [bucket, n] of histogram.entries()) {
    below += n;
    if (below >= share * rows) return Math.round(bucketStart(bucket + 0.5));
  }
  return null;
}
