// How a training went, step by step and validation by validation, as data and as a line of text. Imports nothing, so that workflows may use it.

/** What a step gave. */
export interface CurveStep {
  step: number;
  loss: number;
  /** Before clipping. */
  gradNorm: number;
  learningRate: number;
}
/** What a validation gave after a step. */
export interface CurveValidation {
  step: number;
  loss: number;
  /** With the methods that tell answers apart: the share that was told right. */
  accuracy?: number | undefined;
}
/** Both ascending in `step`. */
export interface LearningCurve {
  steps: CurveStep[];
  validations: CurveValidation[];
}

const SPARKS = '▁▂▃▄▅▆▇█';

/** At most so many points, with the first and the last, spread evenly: again and again the one goes whose neighbours are nearest to each other. */
export function thinned<P extends { step: number }>(points: readonly P[], max: number): P[] {
  const kept = [...points];
  while (kept.length > Math.max(2, max)) {
    let crowded = 1;
    for (let i = 1; i < kept.length - 1; i++) if (gapAround(kept, i) < gapAround(kept, crowded)) crowded = i;
    kept.splice(crowded, 1);
  }
  return kept;
}

function gapAround(points: readonly { step: number }[], i: number): number {
  return (points[i + 1]?.step ?? 0) - (points[i - 1]?.step ?? 0);
}

/** One character a value, or the mean of neighbours where there are more values than columns. */
export function sparkline(values: readonly number[], columns: number): string {
  if (values.length === 0) return '';
  const width = Math.min(columns, values.length);
  const means = Array.from({ length: width }, (_, i) => {
    const part = values.slice(Math.floor((i * values.length) / width), Math.floor(((i + 1) * values.length) / width));
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
  const low = Math.min(...means);
  const span = Math.max(...means) - low;
  return means
    .map((value) => SPARKS[span === 0 ? 0 : Math.round(((value - low) / span) * (SPARKS.length - 1))] as string)
    .join('');
}

/** The validation with the lowest loss, the first of equals, or null. */
export function bestValidation(validations: readonly CurveValidation[]): CurveValidation | null {
  return validations.reduce<CurveValidation | null>(
    (best, one) => (best === null || one.loss < best.loss ? one : best),
    null,
  );
}

/** `1.832 at step 60, best 1.790 at step 45`, or null where there was none. */
export function describeValidations(validations: readonly CurveValidation[]): string | null {
  const [last, best] = [validations.at(-1), bestValidation(validations)];
  if (last === undefined || best === null) return null;
  const at = ({ loss, step }: CurveValidation) => `${loss.toFixed(3)} at step ${step}`;
  return best.step === last.step ? `${at(last)}, the best` : `${at(last)}, best ${at(best)}`;
}

export interface ValidationRow extends CurveValidation {
  /** Mean loss of the steps since the row before, or null where none is known. */
  trainingLoss: number | null;
  isBest: boolean;
}

/** The validations beside the training, at most `max` of them, the best always. */
export function validationRows({ steps, validations }: LearningCurve, max: number): ValidationRow[] {
  const best = bestValidation(validations);
  const shown = thinned(validations, max);
  const chosen = validations.filter((one) => one === best || shown.includes(one));
  return chosen.map((one, i) => {
    const after = chosen[i - 1]?.step ?? 0;
    const losses = steps.filter(({ step }) => step > after && step <= one.step).map(({ loss }) => loss);
    const sum = losses.reduce((all, loss) => all + loss, 0);
    return { ...one, trainingLoss: losses.length === 0 ? null : sum / losses.length, isBest: one === best };
  });
}

/** `▇▅▃▁ 2.310 → 0.412`, or null before the second step. */
export function describeLosses(steps: readonly CurveStep[], columns: number): string | null {
  const losses = steps.map(({ loss }) => loss);
  if (losses.length < 2) return null;
  return `${sparkline(losses, columns)} ${losses[0]?.toFixed(3)} → ${losses.at(-1)?.toFixed(3)}`;
}
