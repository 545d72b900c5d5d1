// When a checkpoint is due: so often that saving and committing cost about 1 % of the wall time. Warm state covers the steps between.

export interface SavePacing {
  /** A step is done; true when the trainer should be asked for a checkpoint now. */
  isDue(nowMs: number): boolean;
  asked(nowMs: number): void;
  saved(seconds: number, nowMs: number): void;
  /** A commit is done; its processor time is time that the trainer did not have. */
  committed(cpuSeconds: number): void;
}

/** What saving and committing may cost of the wall time. */
const COST_SHARE = 0.01;
/** A run should have something to show soon, and its cost must be measured once, ms. */
const FIRST_MS = 10_000;
/** Between checkpoints, ms: cheaper ones are no reason to fill the store; a host that dies must not cost more than the longest. */
const INTERVAL_MS = { least: 10_000, most: 10 * 60_000 };

export function createSavePacing(startedMs: number): SavePacing {
  let saveSeconds: number | null = null;
  let commitSeconds = 0;
  let lastMs = startedMs;

  const intervalMs = () => {
    if (saveSeconds === null) return FIRST_MS;
    const wanted = (1000 * (saveSeconds + commitSeconds)) / COST_SHARE;
    return Math.min(INTERVAL_MS.most, Math.max(INTERVAL_MS.least, wanted));
  };

  return {
    isDue: (nowMs) => nowMs - lastMs >= intervalMs(),
    asked(nowMs) {
      lastMs = nowMs;
    },
    saved(seconds, nowMs) {
      saveSeconds = seconds;
      lastMs = nowMs;
    },
    committed(cpuSeconds) {
      commitSeconds = cpuSeconds;
    },
  };
}
