// Chooses the examples that the untuned model gets in its prompt: a fixed sample of the training split, by hash, never by position.
import type { Row, TextRow } from '../contracts/rows.ts';
import { sha256Hex } from '../storage/digest.ts';
import { parseJson } from './match.ts';

/** At most `shots` rows; with `stratifyBy` one per value of that key of the JSON reference before a second. */
export function chooseShots(rows: Row[], shots: number, stratifyBy: string | null): Row[] {
  const ordered = rows.toSorted((a, b) => (hashOf(a) < hashOf(b) ? -1 : 1));
  if (stratifyBy === null) return ordered.slice(0, shots);
  const taken = new Map<string, number>();
  const rounds = ordered.map((row) => {
    const stratum = JSON.stringify(
      (parseJson(referenceOf(row)) as Record<string, unknown> | undefined)?.[stratifyBy] ?? null,
    );
    const round = taken.get(stratum) ?? 0;
    taken.set(stratum, round + 1);
    return { row, round };
  });
  return rounds
    .toSorted((a, b) => a.round - b.round)
    .slice(0, shots)
    .map(({ row }) => row);
}

/** A text without turns is all reference. */
export function referenceOf(row: Row | TextRow): string {
  return 'text' in row ? row.text : (row.messages.at(-1)?.content ?? '');
}

export function promptOf(row: Row | TextRow): string {
  if ('text' in row) return '';
  return row.messages.findLast((message) => message.role === 'user')?.content ?? '';
}

/** The held-out rows that are scored: a fixed sample by hash, in hash order, so that more training data changes none of them. */
export function chooseRows<R extends { id: string }>(rows: R[], count: number): R[] {
  return rows.toSorted((a, b) => (hashOf(a) < hashOf(b) ? -1 : 1)).slice(0, count);
}

function hashOf(row: { id: string }): string {
  return sha256Hex(`evaluate/${row.id}`);
}
