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
}

/** Claims of one run; a run that was taken over more often than this has another problem. */
const CLAIMS_MAX = 10_000;

/**
 * Takes the next claim. Where it resumes is decided before it is written, by `choose`, which sees what the newest claim leaves.
 * @throws AnnealError `fenced` when a later attempt has claimed already.
 */
export async function takeClaim(
  store: ObjectStore,
  claimant: Claimant,
  choose: (candidates: AsyncIterable<Checkpoint>) => Promise<Claim['resumeFrom']>,
): Promise<Claim> {
  for (let tries = 0; tries < CLAIMS_MAX; tries++) {
    const newest = await newestClaim(store, claimant.run);
    if (newest !== null && newest.attemptScheduledMs > claimant.attemptScheduledMs) {
      throw new AnnealError(
        'fenced',
        `Run ${claimant.run} was taken over by claim ${newest.number} on host ${newest.host}; this attempt ends.`,
      );
    }
    const claim: Claim = {
      ...claimant,
      number: (newest?.number ?? 0) + 1,
      resumeFrom: await choose(checkpointsFrom(store, newest)),
      writeId: randomUUID(),
    };
    if ((await createJson(store, keys.claim(claim.run, claim.number), claim)) !== 'exists') return claim;
  }
  throw new AnnealError('trainer_bug', `Run ${claimant.run} has more than ${CLAIMS_MAX} claims; look at its history.`);
}

/** Committed checkpoints that a claim after `newest` may resume from, newest first: its own, then what it resumed from, and so on. */
export async function* checkpointsFrom(store: ObjectStore, newest: Claim | null): AsyncGenerator<Checkpoint> {
  let claim = newest;
  let stepMax = Number.POSITIVE_INFINITY;
  while (claim !== null) {
    const { run, number } = claim;
    const found = (await store.list(`${keys.claims(run)}${String(number).padStart(8, '0')}/checkpoints/`))
      .map(keyNumber)
      .filter((step): step is number => step !== null && step <= stepMax)
      .sort((a, b) => b - a);
    for (const step of found) {
      const checkpoint = await readJson(store, keys.checkpoint(run, number, step), CheckpointSchema);
      if (checkpoint !== null) yield checkpoint;
    }
    const from: Claim['resumeFrom'] = claim.resumeFrom;
    if (from === null || from.claim >= number) return;
    stepMax = from.step;
    claim = await readJson(store, keys.claim(run, from.claim), ClaimSchema);
  }
}

export async function newestClaim(store: ObjectStore, run: string): Promise<Claim | null> {
  const prefix = keys.claims(run);
  const numbers = (await store.list(prefix))
    .filter((key) => !key.slice(prefix.length).includes('/'))
    .map((key) => keyNumber(key) ?? 0);
  if (numbers.length === 0) return null;
  return await readJson(store, keys.claim(run, Math.max(...numbers)), ClaimSchema);
}
