// The confirmed lease: an attempt asks the server every few seconds whether it is still the current one. Plain heartbeats never say so,
// and a server that refuses fast keeps the SDK's own timer from ever firing.
//
// What the answers mean for the trainer. Paused, reset, cancelled: the attempt still owns the run, so it saves at the next step edge and
// commits. Superseded: another may train already, so it ends at once. No answer for too long: it ends before the server gives its work away.
import { Context } from '@temporalio/activity';
import {
  ActivityCancelledError,
  ActivityNotFoundError,
  ActivityPausedError,
  ActivityResetError,
} from '@temporalio/client';
import { AnnealError } from '../contracts/failure.ts';
import type { Progress } from '../contracts/status.ts';
import { PauseReached, StopRequest, superseded } from '../trainer/stop-request.ts';

/** Between confirmations, ms; one costs about 12 ms. */
const CONFIRM_MS = 5_000;
/** For one answer, ms. */
const ANSWER_MS = 4_000;
/** An attempt without a confirmation ends so long before the server would give its work to another, ms. */
const MARGIN_MS = 5_000;
/** Of the margin, what the trainer gets to save, ms. */
const MARGIN_GRACE_MS = 3_000;

export interface Lease {
  /**
   * Aborts when the activity is cancelled in any way, when the attempt is no longer the current one, or has not been confirmed for
   * too long. A `StopRequest` as its reason says that there is little time.
   */
  signal: AbortSignal;
  /** Resolves once the server has confirmed this attempt. Rejects when it is not the current one. */
  confirm(): Promise<void>;
  stop(): void;
}

export function holdLease(progress: () => Progress, heartbeatTimeoutMs: number): Lease {
  const context = Context.current();
  const { client, info, cancellationSignal } = context;
  const controller = new AbortController();
  let confirmedAt = Date.now();
  let busy = false;

  const lose = (why: unknown) => {
    if (!controller.signal.aborted) controller.abort(why);
  };

  async function confirm(): Promise<void> {
    await client.connection.withDeadline(Date.now() + ANSWER_MS, () =>
      client.activity.heartbeat(info.taskToken, progress()),
    );
    confirmedAt = Date.now();
  }

  async function tick(): Promise<void> {
    if (busy) return;
    busy = true;
    try {
      await confirm();
    } catch (error) {
      const verdict = verdictOf(error);
      if (verdict !== null) lose(verdict);
    } finally {
      busy = false;
    }
    const silentMs = Date.now() - confirmedAt;
    if (silentMs > heartbeatTimeoutMs - MARGIN_MS) lose(unconfirmed(silentMs));
  }

  // The SDK's own heartbeat may learn of it first.
  const onCancelled = () => {
    const { notFound, cancelRequested, paused } = context.cancellationDetails ?? {};
    if (notFound) lose(superseded('This attempt was superseded.'));
    else if (cancelRequested) lose(asked('cancelled'));
    else lose(paused ? asked('paused') : cancellationSignal.reason);
  };
  cancellationSignal.addEventListener('abort', onCancelled, { once: true });
  if (cancellationSignal.aborted) onCancelled();

  const timer = setInterval(() => void tick(), CONFIRM_MS);
  return {
    signal: controller.signal,
    confirm: async () => {
      await confirm().catch((error: unknown) => {
        const verdict = verdictOf(error);
        if (verdict !== null) lose(verdict);
        throw verdict ?? error;
      });
    },
    stop: () => {
      clearInterval(timer);
      cancellationSignal.removeEventListener('abort', onCancelled);
    },
  };
}

function unconfirmed(silentMs: number): StopRequest {
  return new StopRequest(
    'preempted',
    `Temporal has not confirmed this attempt for ${Math.round(silentMs / 1000)} s; it ends before another may begin.`,
    { graceMs: MARGIN_GRACE_MS, isOver: false },
  );
}

/** People wanted it: the time until it goes on is nobody's loss. */
function asked(how: 'cancelled' | 'paused'): PauseReached {
  return new PauseReached('asked', `Training was handed over: the activity was ${how}.`);
}

/** null when the answer says nothing about the attempt. */
function verdictOf(error: unknown): AnnealError | null {
  if (error instanceof ActivityNotFoundError) return superseded('This attempt was superseded.');
  if (error instanceof ActivityPausedError) return asked('paused');
  if (error instanceof ActivityResetError)
    return new AnnealError('preempted', 'Training was handed over: the activity was reset.');
  if (error instanceof ActivityCancelledError) return asked('cancelled');
  return null;
}
