// When a drill kills: random moments that a seed repeats, one in each equal share of the steps.

/** A kill, as early as allowed: after this step is done, and so far into the next one (0 to 1). */
export interface Moment {
  afterStep: number;
  intoStep: number;
}

/** Steps at the end that nothing is killed in, so that a step is left to recover with. */
const STEPS_LEFT_MIN = 2;

export function chooseMoments(times: number, steps: number, seed: number): Moment[] {
  const random = createRandom(seed);
  const share = Math.max(1, steps - STEPS_LEFT_MIN) / times;
  return Array.from({ length: times }, (_, i) => ({
    afterStep: Math.max(1, Math.floor(i * share + random() * share)),
    intoStep: random(),
  }));
}

/** mulberry32 (T. Ettinger, public domain): 32 bits of state are plenty for choosing moments. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
