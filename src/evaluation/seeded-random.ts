// Random numbers that come again with the same seed: to resample with, and for whatever a test or a drill leaves to chance.

/** @returns a generator of numbers from 0 up to below 1 (mulberry32: small, and good enough to resample with). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
