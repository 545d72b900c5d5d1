// What becomes of each row that the ranges offer: one byte a row. Those of the splits are places in `SPLITS`.

export const FATE = {
  train: 0,
  validation: 1,
  test: 2,
  duplicate: 3,
  /** Nearly the same as a row that stays. */
  near: 4,
  /** Nearly the same as a row that is held out, or in an evaluation suite. */
  contaminated: 5,
  /** Taken out by the source's weight. */
  leftOut: 6,
  /** Shares words in a row with one that is held out. */
  sharesText: 7,
} as const;

/** Whether the row is in a split. */
export function isKept(fate: number): boolean {
  return fate <= FATE.test;
}

export function isHeldOut(fate: number): boolean {
  return fate === FATE.validation || fate === FATE.test;
}
