// The learning curve of a run as its steps come in, across every death: a step that is done again replaces what came after it.
import { type LearningCurve, thinned } from '../contracts/learning-curve.ts';
import type { TrainerEvent } from '../contracts/trainer-protocol.ts';

export interface CurveKeeper {
  observe(event: TrainerEvent): void;
  curve(): LearningCurve;
}

/** Points that are kept of each kind: more than a chart has columns, some 20 KB in a checkpoint's manifest. */
const POINTS_MAX = 200;

/** @param carried of the attempts before, or null */
export function createCurveKeeper(carried: LearningCurve | null): CurveKeeper {
  let { steps, validations } = carried ?? { steps: [], validations: [] };
  return {
    observe(event) {
      if (event.ev === 'step') {
        const { step, loss, gradNorm, learningRate } = event;
        steps = added(steps, { step, loss, gradNorm, learningRate });
      }
      if (event.ev === 'metrics') {
        const { step, evalLoss: loss, evalAccuracy: accuracy } = event;
        validations = added(validations, { step, loss, ...(accuracy === undefined ? {} : { accuracy }) });
      }
    },
    curve: () => ({ steps, validations }),
  };
}

/** The one that reaches further; of equals the first. */
export function furthestCurve(...curves: (LearningCurve | null)[]): LearningCurve | null {
  const lastStep = ({ steps }: LearningCurve) => steps.at(-1)?.step ?? 0;
  return curves.filter((its) => its !== null).sort((a, b) => lastStep(b) - lastStep(a))[0] ?? null;
}

function added<P extends { step: number }>(points: P[], point: P): P[] {
  const before = (points.at(-1)?.step ?? 0) < point.step ? points : points.filter(({ step }) => step < point.step);
  return thinned([...before, point], POINTS_MAX);
}
