// The confirmed lease: an attempt asks the server every few seconds whether it is still the current one. Plain heartbeats never say so,
// and a server that refuses fast keeps the SDK's own timer from ever firing.
import { Context } from '@temporalio/activity';
import {
  ActivityCancelledError,
  ActivityNotFoundError,
  ActivityPausedError,
  ActivityResetError,
} from '@temporalio/client';
import type { Progress } from '../contracts/status.ts';

/** Between confirmations, ms; one costs about 12 ms. */
const CONFIRM_MS = 5_000;
/** For one answer, ms. */
const ANSWER_MS = 4_000;
/** An attempt without a confirmation ends so long before the server would give its work to another, ms. */
const MARGIN_MS = 5_000;

export interface Lease {
  /** Aborts when the attempt is no longer the current one, or has not been confirmed for too long. */
  signal: AbortSignal;
  /** Why it was lost, or null. */
  lost(): string | null;
  /** Resolves once the server has confirmed this attempt. Rejects when it is not the current one. */
  confirm(): Promise<void>;
  stop(): void;
}

export function holdLease(progress: () => Progress, heartbeatTimeoutMs: number): Lease {
  const { client, info } = Context.current();
  const controller = new AbortController();
  let confirmedAt = Date.now();
  let reason: string | null = null;
  let busy = false;

  const lose = (why: string) => {
    if (reason !== null) return;
    reason = why;
    controller.abort(new Error(why));
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
    if (silentMs > heartbeatTimeoutMs - MARGIN_MS)
      lose(`Temporal has not confirmed this attempt for ${Math.round(silentMs / 1000)} s`);
  }

  const timer = setInterval(() => void tick(), CONFIRM_MS);
  return {
    signal: controller.signal,
    lost: () => reason,
    confirm: async () => {
      await confirm().catch((error: unknown) => {
        const verdict = verdictOf(error);
        if (verdict !== null) lose(verdict);
        throw error;
      });
    },
    stop: () => clearInterval(timer),
  };
}

/** null when the answer says nothing about the attempt. */
function verdictOf(error: unknown): string | null {
  if (error instanceof ActivityNotFoundError) return 'this attempt was superseded';
  if (error instanceof ActivityPausedError) return 'the activity was paused';
  if (error instanceof ActivityResetError) return 'the activity was reset';
  if (error instanceof ActivityCancelledError) return 'the activity was cancelled';
  return null;
}
