// Reads on where a connection broke off, from the same version of the source, so that hours of reading are not lost to one break.
import { setTimeout as pause } from 'node:timers/promises';
import { AnnealError } from '../contracts/failure.ts';

/** Breaks in a row without a byte in between; a server that is down is left to the stage's own retries. */
const BREAKS_MAX = 3;
/** After a break, times its number, ms. */
const PAUSE_MS = 500;

export interface Resume {
  /** The rest from this byte on. @throws when the version is gone. */
  reopen: (from: number) => Promise<AsyncIterable<Uint8Array>>;
  /** Whether another try could help. */
  isBreak: (error: unknown) => boolean;
  signal?: AbortSignal | undefined;
}

export async function* resumed(
  first: AsyncIterable<Uint8Array>,
  { reopen, isBreak, signal }: Resume,
): AsyncGenerator<Uint8Array> {
  let read = 0;
  let breaks = 0;
  for (let open: () => Promise<AsyncIterable<Uint8Array>> = async () => first; ; open = () => reopen(read)) {
    try {
      for await (const piece of await open()) {
        read += piece.length;
        breaks = 0;
        yield piece;
      }
      return;
    } catch (error) {
      breaks++;
      if (breaks > BREAKS_MAX || signal?.aborted || !isBreak(error)) throw error;
    }
    await pause(PAUSE_MS * breaks, undefined, { signal });
  }
}

/** The version that was being read is gone. */
export function changedSource(uri: string, cause?: unknown): AnnealError {
  const message = `Source ${uri} changed while it was read; try again when its writer is done.`;
  return new AnnealError('source_changed', message, cause === undefined ? {} : { cause });
}
