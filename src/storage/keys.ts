// Where things lie in the object store: the only place that spells object keys. Numbers are fixed-width so that lists sort.

const number = (n: number) => String(n).padStart(8, '0');

export const keys = {
  blob: (sha256: string) => `blobs/sha256/${sha256.slice(0, 2)}/${sha256}`,
  snapshot: (digest: string) => `snapshots/${digest}.json`,
  dataset: (digest: string) => `datasets/${digest}.json`,
  /** The dataset that was made of the input with this digest, in whichever run. */
  prepared: (inputDigest: string) => `prepared/${inputDigest}.json`,
  /** A finished stage of a run, for the input with this digest. */
  stage: (run: string, stage: string, inputDigest: string) =>
    `runs/${run}/stages/${stage}-${inputDigest.slice(0, 16)}.json`,
  claims: (run: string) => `runs/${run}/claims/`,
  claim: (run: string, n: number) => `runs/${run}/claims/${number(n)}.json`,
  claimEnd: (run: string, n: number) => `runs/${run}/claims/${number(n)}/end.json`,
  checkpoints: (run: string, claim: number) => `runs/${run}/claims/${number(claim)}/checkpoints/`,
  checkpoint: (run: string, claim: number, step: number) =>
    `runs/${run}/claims/${number(claim)}/checkpoints/${number(step)}.json`,
  /** Parts of the checkpoints of one claim. Only that claim's attempt writes there. */
  parts: (run: string, claim: number) => `runs/${run}/parts/${number(claim)}/`,
  part: (run: string, claim: number, sha256: string) => `runs/${run}/parts/${number(claim)}/${sha256}`,
  receipts: (run: string) => `runs/${run}/receipts/`,
  /** `open` is written when a recovery begins, `closed` when it is over. */
  receipt: (run: string, claim: number, n: number, state: 'open' | 'closed') =>
    `runs/${run}/receipts/${number(claim)}/${number(n)}-${state}.json`,
  /** Hints of how fast a recipe trains, one for each device. */
  speeds: (recipeDigest: string) => `hints/speed/${recipeDigest.slice(0, 16)}/`,
  models: () => 'models/',
  versions: (model: string) => `models/${model}/versions/`,
  version: (model: string, n: number) => `models/${model}/versions/${number(n)}.json`,
  modelEvents: (model: string) => `models/${model}/events/`,
  modelEvent: (model: string, n: number) => `models/${model}/events/${number(n)}.json`,
  endpoints: () => 'endpoints/',
  routes: (endpoint: string) => `endpoints/${endpoint}/routes/`,
  route: (endpoint: string, n: number) => `endpoints/${endpoint}/routes/${number(n)}.json`,
};

/** The trailing number of a key made above, or null for another key. */
export function keyNumber(key: string): number | null {
  const match = /\/(\d{8})\.json$/.exec(key);
  return match ? Number(match[1]) : null;
}
