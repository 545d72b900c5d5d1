// Whether and when a dead part of the stack is started again. Nothing here reads the clock.

/** A part that dies more often than this within the window has a cause that repeating does not mend. */
const RESTARTS_MAX = 20;
const WINDOW_MS = 10 * 60_000;

/** The first pause is short, because a killed part should be back before anyone waits for it; then it doubles. */
const PAUSE_MS_MIN = 200;
const PAUSE_MS_MAX = 5_000;

/** Deaths further apart than this are unrelated: the pause starts short again. */
const RELATED_MS = 60_000;

export type RestartStep = { restart: true; afterMs: number } | { restart: false; deaths: number; windowMs: number };

/** @param deathsAtMs when the part died, oldest first, the newest being now. */
export function decideRestart(deathsAtMs: readonly number[]): RestartStep {
  const now = deathsAtMs.at(-1) ?? 0;
  const inWindow = deathsAtMs.filter((at) => now - at < WINDOW_MS).length;
  if (inWindow > RESTARTS_MAX) return { restart: false, deaths: inWindow, windowMs: WINDOW_MS };
  const related = deathsAtMs.filter((at) => now - at < RELATED_MS).length;
  return { restart: true, afterMs: Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** Math.max(0, related - 1)) };
}
