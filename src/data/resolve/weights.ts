// Leaves rows out as the sources' weights say: those with the greatest ids, which are as good as drawn by lot and the same each time.
import type { Weight } from '../../contracts/data-spec.ts';
import { INDEX_BYTES } from '../range/index-file.ts';
import { FATE, isKept } from './fates.ts';
import { type RowIndex, readBlocks } from './indexes.ts';

/** Bytes of an id that order the rows: exact as a number. */
const ORDER_BYTES = 6;
const BUCKETS = 65_536;

export interface Weighted {
  weight: Weight | null;
  name: string;
}

/**
 * Marks rows as left out. `weightOf` gives the weighted source of a snapshot's source, by its place in `weighted`.
 * Returns what should be known of it.
 */
export async function leaveOut(
  indexes: RowIndex[],
  fates: Uint8Array,
  weighted: Weighted[],
  weightOf: (source: number) => number,
  signal: AbortSignal,
): Promise<string[]> {
  if (weighted.every(({ weight }) => weight?.ratio === undefined && weight?.cap === undefined)) return [];
  const buckets = weighted.map(() => new Uint32Array(BUCKETS));
  await eachKept(indexes, fates, signal, (source, order) => {
    const counted = buckets[weightOf(source)] as Uint32Array;
    const bucket = bucketOf(order);
    counted[bucket] = (counted[bucket] as number) + 1;
  });
  const counts = buckets.map((counted) => counted.reduce((sum, n) => sum + n, 0));
  const { takes, notes } = decideTakes(weighted, counts);
  const limits = await findLimits(indexes, fates, { takes, counts, buckets, weightOf, signal });
  await eachKept(indexes, fates, signal, (source, order, row) => {
    if (order > (limits[weightOf(source)] as number)) fates[row] = FATE.leftOut;
  });
  return notes;
}

/** How many rows of each source stay. Pure. */
export function decideTakes(weighted: Weighted[], counts: number[]): { takes: number[]; notes: string[] } {
  const whole = wholeOf(weighted, counts);
  const notes: string[] = [];
  const takes = weighted.map(({ weight, name }, i) => {
    const count = counts[i] as number;
    if (weight?.cap !== undefined) return Math.min(count, weight.cap);
    if (weight?.ratio === undefined) return count;
    const wanted = Math.round(weight.ratio * whole);
    if (wanted > count)
      notes.push(`${name} has ${count} rows, fewer than the ${wanted} of its ratio ${weight.ratio}; all are taken.`);
    return Math.min(count, wanted);
  });
  return { takes, notes };
}

/** Rows of the dataset of which the ratios are shares: where all sources have one, as many as the scarcest allows. */
function wholeOf(weighted: Weighted[], counts: number[]): number {
  const ratios = weighted.map(({ weight }) => weight?.ratio);
  const total = ratios.reduce<number>((sum, ratio) => sum + (ratio ?? 0), 0);
  if (ratios.every((ratio) => ratio !== undefined))
    return Math.min(...ratios.map((ratio, i) => (counts[i] as number) / ratio));
  const others = weighted.reduce((sum, { weight }, i) => {
    const count = counts[i] as number;
    return weight?.ratio === undefined ? sum + Math.min(count, weight?.cap ?? count) : sum;
  }, 0);
  return others / (1 - total);
}

interface LimitInput {
  takes: number[];
  counts: number[];
  buckets: Uint32Array[];
  weightOf: (source: number) => number;
  signal: AbortSignal;
}

/** By weighted source the greatest order that stays. */
async function findLimits(indexes: RowIndex[], fates: Uint8Array, input: LimitInput): Promise<number[]> {
  const edges = input.takes.map((take, i) =>
    take === input.counts[i] ? null : edgeOf(input.buckets[i] as Uint32Array, take),
  );
  const inEdge = edges.map(() => [] as number[]);
  await eachKept(indexes, fates, input.signal, (source, order) => {
    const i = input.weightOf(source);
    if (edges[i]?.bucket === bucketOf(order)) (inEdge[i] as number[]).push(order);
  });
  return edges.map((edge, i) => {
    if (edge === null) return Number.POSITIVE_INFINITY;
    return (inEdge[i] as number[]).toSorted((a, b) => a - b)[edge.place - 1] ?? -1;
  });
}

/** The bucket in which the last row that stays lies, and its place in there, from 1 on. */
function edgeOf(buckets: Uint32Array, take: number): { bucket: number; place: number } {
  let before = 0;
  for (const [bucket, count] of buckets.entries()) {
    if (before + count >= take) return { bucket, place: take - before };
    before += count;
  }
  return { bucket: BUCKETS - 1, place: take - before };
}

function bucketOf(order: number): number {
  return Math.floor(order / 2 ** (ORDER_BYTES * 8 - 16));
}

async function eachKept(
  indexes: RowIndex[],
  fates: Uint8Array,
  signal: AbortSignal,
  take: (source: number, order: number, row: number) => void,
): Promise<void> {
  for await (const { source, first, rows, bytes } of readBlocks(indexes, signal))
    for (let row = 0; row < rows; row++)
      if (isKept(fates[first + row] as number))
        take(source, bytes.readUIntBE(row * INDEX_BYTES, ORDER_BYTES), first + row);
}
