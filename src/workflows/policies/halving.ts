// Which trials a rung lets go on. Pure.

export interface Standing {
  run: string;
  /** Validation loss at the rung; null when there is none. */
  evalLoss: number | null;
}

/** The best first; among equals the earlier trial. Those without a loss are not among them. */
export function rank<T extends Standing>(standings: T[]): T[] {
  return standings
    .filter(({ evalLoss }) => evalLoss !== null)
    .sort((a, b) => (a.evalLoss as number) - (b.evalLoss as number));
}

/** How many of so many go on: the share, rounded up; of the last rung one. */
export function countKept(trials: number, keep: number, isLast: boolean): number {
  return isLast ? Math.min(1, trials) : Math.min(trials, Math.max(1, Math.ceil(trials * keep - 1e-9)));
}
