// Waiting for a store that is away: the call is tried again until it is answered or the signal aborts.
import { AnnealError } from '../contracts/failure.ts';

/** Between tries, ms. What is written this way is not waited for, so there is no limit on tries. */
const RETRY_MS = { first: 500, most: 10_000 };

/** @param onTrouble gets the reason while the store is away, and null once it has answered. */
export async function untilAnswered<T>(
  work: () => Promise<T>,
  signal: AbortSignal,
  onTrouble: (why: string | null) => void = () => undefined,
): Promise<T> {
  for (let delayMs = RETRY_MS.first; ; delayMs = Math.min(delayMs * 2, RETRY_MS.most)) {
    signal.throwIfAborted();
    try {
      const answer = await work();
      onTrouble(null);
      return answer;
    } catch (error) {
      if (signal.aborted || !(error instanceof AnnealError) || error.kind !== 'store_unavailable') throw error;
      onTrouble(error.message);
      await pause(delayMs, signal);
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
