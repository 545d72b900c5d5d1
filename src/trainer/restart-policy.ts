// Judges a trainer's end inside the attempt: start it again here, or give up with the kind that tells the workflow what to do.
// Counted in progress, not in tries: a trainer that gets further each time may die as often as it likes.
import { AnnealError, type FailureKind } from '../contracts/failure.ts';
import type { ChildEnd } from './child.ts';

export interface TrainerDeath {
  end: Pick<ChildEnd, 'reason' | 'outcome' | 'message' | 'signal'>;
  /** Highest step reached before it. */
  step: number;
  /** The step that it had started from. */
  from: number;
}

export type RestartDecision =
  | { action: 'restart'; kind: FailureKind; dropCheckpoint: boolean }
  | { action: 'stop'; error: AnnealError };

/** Ends by itself in a row without one new step, after which starting again is pointless: the same step fails each time. */
export const FRUITLESS_DEATHS_MAX = 3;
/** The same for deaths by a signal from outside, which say little about the trainer: somebody kills it while it loads. */
export const FRUITLESS_KILLS_MAX = 20;

/** @param deaths every death of this attempt, the last one last. */
export function decideRestart(deaths: TrainerDeath[]): RestartDecision {
  const last = deaths.at(-1);
  if (last === undefined) throw new AnnealError('trainer_bug', 'A restart was judged without a death.');
  const { outcome, message, reason } = last.end;
  switch (outcome) {
    case 'bad_request':
    case 'data_rejected':
    case 'out_of_memory':
    case 'loss_not_finite':
    case 'disk_full':
      return { action: 'stop', error: new AnnealError(outcome, message) };
    case 'checkpoint_corrupt':
      return { action: 'restart', kind: 'checkpoint_corrupt', dropCheckpoint: true };
    case 'done':
      return {
        action: 'stop',
        error: new AnnealError(
          'trainer_bug',
          'The trainer ended with exit code 0 but without a result; look at its log.',
        ),
      };
    case 'interrupted':
    case 'orphaned':
    case 'crashed': {
      const kind = reason === 'stalled' ? 'trainer_stalled' : 'trainer_crashed';
      const most = last.end.signal === 'SIGKILL' && reason === 'exited' ? FRUITLESS_KILLS_MAX : FRUITLESS_DEATHS_MAX;
      const fruitless = fruitlessDeaths(deaths);
      if (fruitless < most) return { action: 'restart', kind, dropCheckpoint: false };
      return {
        action: 'stop',
        error: new AnnealError(
          'trainer_bug',
          `The trainer died ${fruitless} times at step ${last.step} without a new step: ${message}`,
        ),
      };
    }
    default:
      return outcome satisfies never;
  }
}

function fruitlessDeaths(deaths: TrainerDeath[]): number {
  let count = 0;
  let highest = Number.NEGATIVE_INFINITY;
  for (const death of deaths) {
    count = death.step > highest ? 1 : count + 1;
    highest = Math.max(highest, death.step);
  }
  return count;
}
