// How long what is still to be written gets when an attempt ends without a result.
import { MemberDied } from './gang.ts';
import { PauseReached, StopRequest } from './stop-request.ts';

/**
 * ms. Told to stop; where nobody is in a hurry; and where a gang broke: a host that is not heard of within five seconds counts as lost,
 * and what another host has not stored by then it may never store.
 */
const LIMIT_MS = { hurried: 20_000, paused: 10 * 60_000, broken: 3_000 };

/** @param error what ended the attempt. @param isBroken ranks of the gang have ended without having saved together. */
export function timeToWrite(error: unknown, stop: AbortSignal, isBroken: boolean): number {
  if (error instanceof StopRequest && error.isOver) return 0;
  if (isBroken) return LIMIT_MS.broken;
  const isPaused = error instanceof PauseReached || stop.reason instanceof PauseReached;
  return isPaused ? LIMIT_MS.paused : LIMIT_MS.hurried;
}

/** For a host that is not the first: it cannot know why another was asked to stop, so it waits as long as that one may. */
export function timeToFollow(error: unknown, stop: AbortSignal, isBroken: boolean): number {
  const isAnothers = error instanceof MemberDied && error.wasAsked && !stop.aborted;
  return isAnothers ? LIMIT_MS.paused : timeToWrite(error, stop, isBroken);
}

/** Waits for work, unless the signal aborts first. Throws its reason then; nobody asks for the work any more. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined); // when the signal wins, nobody asks any more
  let onAbort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
  return await Promise.race([work, aborted]).finally(() => signal.removeEventListener('abort', onAbort));
}
