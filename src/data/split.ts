// Decides which split a group of rows belongs to: by a hash of salt and group, never by position, so that rows that are added
// later move none that are there.
import { hash } from 'node:crypto';
import { SPLITS, type Split } from '../contracts/rows.ts';
import type { Spec } from '../contracts/spec.ts';

export type Shares = Spec['data']['split'];

/** Six bytes of the hash: exact as a number, and finer than any share. */
const FRACTION_HEX_DIGITS = 12;

/** Where the group stands in [0, 1). */
export function fractionOf(group: string, salt: string): number {
  const digits = hash('sha256', `${salt}\n${group}`, 'hex').slice(0, FRACTION_HEX_DIGITS);
  return Number.parseInt(digits, 16) / 16 ** FRACTION_HEX_DIGITS;
}

export function splitAt(fraction: number, shares: Shares): Split {
  if (fraction < shares.test) return 'test';
  return fraction < shares.test + shares.validation ? 'validation' : 'train';
}

/** The splits that must have rows. */
export function wantedSplits(shares: Shares): Split[] {
  return SPLITS.filter((split) => split === 'train' || shares[split] > 0);
}

interface PlacedGroup {
  group: string;
  fraction: number;
}

/** At most this many groups are remembered at either end of a split: there are two moves at most, and a donor keeps one. */
const EDGE_GROUPS = 3;

/** The groups with the smallest and the largest fractions of each split, in order; each group once. */
export type SplitEdges = Record<Split, PlacedGroup[]>;

export function createEdges(): SplitEdges {
  return { train: [], validation: [], test: [] };
}

export function noteGroup(edges: SplitEdges, split: Split, placed: PlacedGroup): void {
  const groups = edges[split];
  const at = groups.findIndex((other) => other.fraction >= placed.fraction);
  if (groups[at]?.group === placed.group) return;
  const isInner = groups.length >= 2 * EDGE_GROUPS && at === EDGE_GROUPS;
  if (isInner) return;
  groups.splice(at === -1 ? groups.length : at, 0, placed);
  if (groups.length > 2 * EDGE_GROUPS) groups.splice(EDGE_GROUPS, 1);
}

export interface Move {
  group: string;
  from: Split;
  to: Split;
}

/**
 * Gives every wanted split a group when there are enough: few groups may all fall on one side. The held-out splits take the
 * smallest fraction of a split that keeps another group, the training split the largest. Such a choice is not stable:
 * it may change once more groups come.
 * @param fixed splits that have rows besides, which cannot be moved.
 */
export function decideMoves(edges: SplitEdges, shares: Shares, fixed: ReadonlySet<Split> = new Set()): Move[] {
  const left: SplitEdges = { train: [...edges.train], validation: [...edges.validation], test: [...edges.test] };
  const moves: Move[] = [];
  for (const to of wantedSplits(shares).toReversed()) {
    if (left[to].length > 0 || fixed.has(to)) continue;
    const from = donorOf(to, left);
    const moved = from === null ? undefined : to === 'train' ? left[from].pop() : left[from].shift();
    if (from === null || moved === undefined) continue;
    left[to].push(moved);
    moves.push({ group: moved.group, from, to });
  }
  return moves;
}

function donorOf(to: Split, edges: SplitEdges): Split | null {
  const order: Split[] = to === 'train' ? ['validation', 'test'] : ['train', 'validation', 'test'];
  return order.find((split) => split !== to && edges[split].length >= 2) ?? null;
}
