// Why an attempt is told to stop, as the reason of its signal, when it matters how long it may take.
// Any other reason (cancel, pause, reset, the end of the worker) leaves time to save and commit.
import { AnnealError, type FailureKind } from '../contracts/failure.ts';

export class StopRequest extends AnnealError {
  /** From SIGTERM to SIGKILL, ms. */
  readonly graceMs: number;
  /** Another attempt owns the run: there is nothing to commit any more. */
  readonly isOver: boolean;

  constructor(kind: FailureKind, message: string, how: { graceMs: number; isOver: boolean }) {
    super(kind, message);
    this.graceMs = how.graceMs;
    this.isOver = how.isOver;
  }
}

/**
 * Somebody or a limit wants the training to wait: there is time to commit everything, and the time until it goes on is nobody's loss.
 * `asked` = from outside (the activity was cancelled or paused).
 */
export class PauseReached extends AnnealError {
  readonly why: 'asked' | 'budget_reached' | 'rung';
  /** Of a rung. */
  readonly evalLoss: number | null;

  constructor(why: PauseReached['why'], message: string, evalLoss: number | null = null) {
    super('preempted', message);
    this.why = why;
    this.evalLoss = evalLoss;
  }
}

/** Another attempt may be training already: this one ends at once. */
export function superseded(message: string): StopRequest {
  return new StopRequest('fenced', message, { graceMs: 0, isOver: true });
}
