// How much of a sweep's budget a trial may use until its next stop. Pure.
//
// What a trial is allotted is its own until it stops, so that together they never use more than the budget, what it takes to start a trainer and do a step aside. The rest
// is shared among those that are about to go on. Who uses up his share stops with a checkpoint, and goes on with what others have left.

/** A smaller part of the budget is not worth starting a trainer for. */
const SHARE_MIN = 0.02;

export interface Account {
  /** GPU seconds, as far as it has told. */
  used: number;
  /** What it may have used at its next stop; null = it holds nothing. */
  allotted: number | null;
}

/** GPU seconds that are neither used nor allotted. */
export function freeOf(max: number, accounts: Account[]): number {
  return accounts.reduce((free, { used, allotted }) => free - Math.max(used, allotted ?? 0), max);
}

/** @param waiting trials that share what is free, this one among them. @returns GPU seconds; null where too little is left. */
export function shareOf(max: number, accounts: Account[], waiting: number): number | null {
  const share = freeOf(max, accounts) / Math.max(1, waiting);
  return share < SHARE_MIN * max ? null : share;
}
