// When a drill kills: random moments that a seed repeats, one in each equal share of the steps.
import { seededRandom } from '../../evaluation/seeded-random.ts';

/** A kill, as early as allowed: after this step is done, and so far into the next one (0 to 1). */
export interface Moment {
  afterStep: number;
  intoStep: number;
}

/** Steps at the end that nothing is killed in, so that a step is left to recover with. */
const STEPS_LEFT_MIN = 2;

export function chooseMoments(times: number, steps: number, seed: number): Moment[] {
  const random = seededRandom(seed);
  const share = Math.max(1, steps - STEPS_LEFT_MIN) / times;
  return Array.from({ length: times }, (_, i) => ({
    afterStep: Math.max(1, Math.floor(i * share + random() * share)),
    intoStep: random(),
  }));
}
