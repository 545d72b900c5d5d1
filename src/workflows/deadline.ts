// Waits for a budget's deadline.
import { CancellationScope, isCancellation, sleep } from '@temporalio/workflow';
import { type Budget, deadlineAtMs } from '../contracts/budget.ts';

/** A timer's length, ms; before a later deadline it is set anew. */
const TIMER_MS_MAX = 365 * 86_400_000;

/** Does something when the deadline comes, unless the scope is cancelled before; nothing without one. */
export function watchDeadline({ deadline }: Budget, startedMs: number, act: () => void): CancellationScope {
  const watch = new CancellationScope();
  const atMs = deadline === null ? null : deadlineAtMs(deadline, startedMs);
  if (atMs === null) return watch;
  const wait = async () => {
    while (Date.now() < atMs) await sleep(Math.min(TIMER_MS_MAX, atMs - Date.now()));
    act();
  };
  watch.run(wait).catch((error: unknown) => {
    if (!isCancellation(error)) throw error;
  });
  return watch;
}
