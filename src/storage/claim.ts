// Claims: how an attempt takes over a run's training so that nobody is ever fooled by the attempt before it.
// Creating `claims/<n+1>.json` is the lock. The claim fixes where the attempt resumes; what an older one still writes lies under its
// own number and is not read, because every later claim starts its search at the newest claim that it saw.
import { randomUUID } from 'node:crypto';
import { AnnealError } from '../contracts/failure.ts';
import { type Checkpoint, CheckpointSchema, type Claim, ClaimSchema } from '../contracts/records.ts';
import { keyNumber, keys } from './keys.ts';
import type { ObjectStore } from './object-store.ts';
import { createJson, readJson } from './record.ts';

export interface Claimant {
  run: string;
  workflowRunId: string;
  /** The server's time at which this attempt was scheduled, ms: a later attempt has a later time, also after a reset. */
  attemptScheduledMs: number;
  host: string;
  /** Where the attempt is a gang's. */
  gang?: Pick<NonNullable<Claim['gang']>, 'epoch' | 'hosts'>;
}

/** A claim whose states may be resumed from, up to a step: the newest claim without a bound, then what it resumed from, and so on. */
export interface ChainLink {
  claim: number;
  stepMax: number;
}

/** What a claimant sees of the run. */
export interface Takeover {
  /** null for a run's first claim. */
  newest: Claim | null;
  chain: ChainLink[];
  /** Committed checkpoints of the chain, newest first. */
  checkpoints: AsyncIterable<Checkpoint>;
}

export type ClaimChoice = Pick<Claim, 'resumeFrom' | 'changes' | 'strategy'> & {
  /** Read by the other hosts of a gang. */
  source: NonNullable<Claim['gang']>['source'];
};

/** Claims of one run; a run that was taken over more often than this has another problem. */
const CLAIMS_MAX = 10_000;

/**
 * Takes the next claim. Where it resumes is decided before it is written, by `choose`, which sees what the newest claim leaves.
 * The same attempt may claim again, to resume elsewhere.
 * @throws AnnealError `fenced` when a later attempt has claimed already.
 */
export async function takeClaim(
  store: ObjectStore,
  claimant: Claimant,
  choose: (takeover: Takeover) => Promise<ClaimChoice>,
): Promise<Claim> {
  for (let tries = 0; tries < CLAIMS_MAX; tries++) {
    const newest = await newestClaim(store, claimant.run);
    if (newest !== null && isLater(newest, claimant)) throw fencedBy(newest);
    const chain = await chainOf(store, newest);
    const { source, ...choice } = await choose({
      newest,
      chain,
      checkpoints: checkpointsOf(store, claimant.run, chain),
    });
    const claim: Claim = {
      ...claimant,
      ...choice,
      gang: claimant.gang === undefined ? null : { ...claimant.gang, source },
      number: (newest?.number ?? 0) + 1,
      runStartedMs: newest?.runStartedMs ?? Date.now(),
      writeId: randomUUID(),
    };
    if ((await createJson(store, keys.claim(claim.run, claim.number), claim)) !== 'exists') return claim;
  }
  throw new AnnealError('trainer_bug', `Run ${claimant.run} has more than ${CLAIMS_MAX} claims; look at its history.`);
}

/** @throws AnnealError `fenced` when the run has a newer claim than this one. */
export async function requireNewest(store: ObjectStore, { run, claim }: { run: string; claim: number }): Promise<void> {
  const newest = await newestClaim(store, run);
  if (newest !== null && newest.number > claim) throw fencedBy(newest);
}

/** By the time at which a gang's attempt began, then by the attempt's own. */
function isLater(a: Claim | Claimant, b: Claim | Claimant): boolean {
  const begun = ({ gang, attemptScheduledMs }: Claim | Claimant) => gang?.epoch ?? attemptScheduledMs;
  return begun(a) > begun(b) || (begun(a) === begun(b) && a.attemptScheduledMs > b.attemptScheduledMs);
}

/** The claim that a gang's first host has taken for all, or null while it has not. @throws AnnealError `fenced` when there is a later one. */
export async function claimOfGang(store: ObjectStore, claimant: Claimant): Promise<Claim | null> {
  const newest = await newestClaim(store, claimant.run);
  if (newest === null) return null;
  if (newest.gang !== null && newest.gang.epoch === claimant.gang?.epoch) return newest;
  if ((newest.gang?.epoch ?? newest.attemptScheduledMs) > (claimant.gang?.epoch ?? 0)) throw fencedBy(newest);
  return null;
}

/** null when it is gone. */
export async function readCheckpoint(
  store: ObjectStore,
  run: string,
  { claim, step }: NonNullable<Claim['resumeFrom']>,
): Promise<Checkpoint | null> {
  return await readJson(store, keys.checkpoint(run, claim, step), CheckpointSchema);
}

function fencedBy({ run, number, host }: Claim): AnnealError {
  return new AnnealError('fenced', `Run ${run} was taken over by claim ${number} on host ${host}; this attempt ends.`);
}

async function chainOf(store: ObjectStore, newest: Claim | null): Promise<ChainLink[]> {
  const chain: ChainLink[] = [];
  let claim = newest;
  let stepMax = Number.POSITIVE_INFINITY;
  while (claim !== null) {
    chain.push({ claim: claim.number, stepMax });
    const from: Claim['resumeFrom'] = claim.resumeFrom;
    if (from === null || from.claim >= claim.number) break;
    stepMax = Math.min(stepMax, from.step);
    claim = await readJson(store, keys.claim(claim.run, from.claim), ClaimSchema);
  }
  return chain;
}

/** Steps of the link's committed checkpoints, newest first, with those beyond its bound, which nobody reads. */
export async function committedSteps(
  store: ObjectStore,
  run: string,
  link: ChainLink,
): Promise<{ steps: number[]; beyond: number[] }> {
  const found = (await store.list(keys.checkpoints(run, link.claim)))
    .map(keyNumber)
    .filter((step): step is number => step !== null)
    .sort((a, b) => b - a);
  return {
    steps: found.filter((step) => step <= link.stepMax),
    beyond: found.filter((step) => step > link.stepMax),
  };
}

/** Committed checkpoints of a chain, newest first. */
export async function* checkpointsOf(store: ObjectStore, run: string, chain: ChainLink[]): AsyncGenerator<Checkpoint> {
  for (const link of chain) {
    for (const step of (await committedSteps(store, run, link)).steps) {
      const checkpoint = await readJson(store, keys.checkpoint(run, link.claim, step), CheckpointSchema);
      if (checkpoint !== null) yield checkpoint;
    }
  }
}

async function newestClaim(store: ObjectStore, run: string): Promise<Claim | null> {
  const prefix = keys.claims(run);
  const numbers = (await store.list(prefix))
    .filter((key) => !key.slice(prefix.length).includes('/'))
    .map((key) => keyNumber(key) ?? 0);
  if (numbers.length === 0) return null;
  return await readJson(store, keys.claim(run, Math.max(...numbers)), ClaimSchema);
}
