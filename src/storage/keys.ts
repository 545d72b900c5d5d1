// Where things lie in the object store: the only place that spells object keys. Numbers are fixed-width so that lists sort.

const number = (n: number) => String(n).padStart(8, '0');

export const keys = {
  blob: (sha256: string) => `blobs/sha256/${sha256.slice(0, 2)}/${sha256}`,
  snapshot: (digest: string) => `snapshots/${digest}.json`,
  /** The snapshot that a run was handed by the one that planned it. */
  handed: (run: string) => `runs/${run}/snapshot.json`,
  /** What the runs of a spec name took of a followed source, in order. */
  takings: (name: string, source: string) => `followed/${name}/${source}/`,
  taking: (name: string, source: string, n: number) => `followed/${name}/${source}/${number(n)}.json`,
  dataset: (digest: string) => `datasets/${digest}.json`,
  /** Those whose digest starts so. */
  datasets: (start: string) => `datasets/${start}`,
  /** The dataset that was made of the input with this digest, in whichever run. */
  prepared: (inputDigest: string) => `prepared/${inputDigest}.json`,
  rangePlan: (digest: string) => `preparation/plans/${digest}.json`,
  /** A cleaned piece of a source, for the input with this digest; so are the next two. */
  piece: (inputDigest: string) => `preparation/pieces/${inputDigest}.json`,
  resolution: (inputDigest: string) => `preparation/resolutions/${inputDigest}.json`,
  tokens: (inputDigest: string) => `preparation/tokens/${inputDigest}.json`,
  /** The pieces of a range, by the digest of the record. */
  cleanedRange: (digest: string) => `preparation/ranges/${digest}.json`,
  /** The cleaned ranges of a run: where its quarantine is found when a gate stops it. */
  allRunRanges: (run: string) => `runs/${run}/ranges/`,
  runRanges: (run: string, digest: string) => `runs/${run}/ranges/${digest.slice(0, 16)}.json`,
  /** The card of the data that a gate refused, by its digest. */
  stoppedCards: (run: string) => `runs/${run}/stopped/`,
  stoppedCard: (run: string, digest: string) => `runs/${run}/stopped/${digest}.json`,
  /** Where the datasets of a name put their groups, oldest first. */
  pins: (name: string) => `pins/${name}/`,
  pinned: (name: string, n: number) => `pins/${name}/${number(n)}.json`,
  /** A finished stage of a run, for the input with this digest. */
  stage: (run: string, stage: string, inputDigest: string) =>
    `runs/${run}/stages/${stage}-${inputDigest.slice(0, 16)}.json`,
  stages: (run: string, stage: string) => `runs/${run}/stages/${stage}-`,
  /** The version that a run continues, by the digest of what its spec says. */
  parent: (run: string, nameDigest: string) => `runs/${run}/parent-${nameDigest.slice(0, 16)}.json`,
  claims: (run: string) => `runs/${run}/claims/`,
  claim: (run: string, n: number) => `runs/${run}/claims/${number(n)}.json`,
  claimEnd: (run: string, n: number) => `runs/${run}/claims/${number(n)}/end.json`,
  checkpoints: (run: string, claim: number) => `runs/${run}/claims/${number(claim)}/checkpoints/`,
  checkpoint: (run: string, claim: number, step: number) =>
    `runs/${run}/claims/${number(claim)}/checkpoints/${number(step)}.json`,
  /** Parts of the checkpoints of one claim. Only that claim's attempt writes there. */
  parts: (run: string, claim: number) => `runs/${run}/parts/${number(claim)}/`,
  part: (run: string, claim: number, sha256: string) => `runs/${run}/parts/${number(claim)}/${sha256}`,
  /** What the hosts of a gang have stored of checkpoints that are not committed yet, by claim. */
  shares: (run: string, claim: number) => `runs/${run}/shares/${number(claim)}/`,
  allShares: (run: string) => `runs/${run}/shares/`,
  /** The first host wants this step of all hosts. */
  shareWanted: (run: string, claim: number, step: number) => `runs/${run}/shares/${number(claim)}/${number(step)}.json`,
  sharesOf: (run: string, claim: number, step: number) => `runs/${run}/shares/${number(claim)}/${number(step)}/`,
  share: (run: string, claim: number, step: number, host: number) =>
    `runs/${run}/shares/${number(claim)}/${number(step)}/${number(host)}.json`,
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
