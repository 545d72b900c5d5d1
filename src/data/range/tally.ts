// Counts what becomes of a range's rows.
import type { CleanedRange } from '../../contracts/cleaned-range.ts';
import type { DropCode } from '../../contracts/rows.ts';

/** Enough to see a pattern, few enough to show. */
const BAD_LINES_MAX = 10;

export function openTally(): CleanedRange {
  return {
    ...{ rowsIn: 0, kept: 0, dropped: {}, fixed: {}, warned: {}, pii: {} },
    ...{ firstBadLines: {}, firstFault: null, quarantined: 0, withoutGroup: 0, labels: { wanted: 0, unwanted: 0 } },
    ...{ header: null, sizeBytes: 0, slowRows: 0 },
  };
}

export function count(counts: Record<string, number>, key: string, n = 1): void {
  counts[key] = (counts[key] ?? 0) + n;
}

export function addCounts(counts: Record<string, number>, more: Record<string, number>): void {
  for (const key in more) count(counts, key, more[key]);
}

export function noteBadLine({ firstBadLines }: CleanedRange, code: DropCode, line: number): void {
  firstBadLines[code] ??= [];
  const lines = firstBadLines[code];
  if (lines.length < BAD_LINES_MAX) lines.push(line);
}
