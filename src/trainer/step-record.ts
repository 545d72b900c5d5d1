// What each step gave, so that one that is done again is known and compared: it must give the same loss and gradient norm, to the bit.
import type { StepEvent } from './event-log.ts';

export interface StepRecord {
  /** `new` the first time, then `same` or, when it came out differently, what the difference is. */
  seen(event: StepEvent): 'new' | 'same' | { difference: string };
  /** The recipe was changed: from here on steps may come out differently. */
  forget(): void;
}

/** Steps that are remembered: more than any checkpoint lies behind. */
const REMEMBERED_MAX = 10_000;

export function createStepRecord(earlier: StepEvent[]): StepRecord {
  let steps = new Map<number, { loss: number; gradNorm: number }>();
  let highest = 0;

  const remember = ({ step, loss, gradNorm }: StepEvent) => {
    steps.set(step, { loss, gradNorm });
    highest = Math.max(highest, step);
    if (steps.size > REMEMBERED_MAX) steps.delete(steps.keys().next().value as number);
  };
  for (const event of earlier) remember(event);

  return {
    seen(event) {
      const before = steps.get(event.step);
      if (before === undefined) {
        const isNew = event.step > highest;
        remember(event);
        return isNew ? 'new' : 'same'; // too long ago to compare
      }
      if (before.loss === event.loss && before.gradNorm === event.gradNorm) return 'same';
      return {
        difference: `loss ${before.loss} then ${event.loss}, gradient norm ${before.gradNorm} then ${event.gradNorm}`,
      };
    },
    forget() {
      steps = new Map();
    },
  };
}
