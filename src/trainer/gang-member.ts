// The part in a gang of every host but the first, which claims, commits and reports for all.
//
// Waiting: the host looks for the claim of its gang's attempt; another attempt's claim says that this one is over. Training: the ranks
// go on from what the claim says; progress and stalls are the first host's to see, and what its ranks have saved is stored when the first
// host wants to commit it. Ended: with the others, or because of them, once the newest save is stored if there is time.
import { setTimeout as sleep } from 'node:timers/promises';
import { AnnealError } from '../contracts/failure.ts';
import type { Claim } from '../contracts/records.ts';
import type { TrainerEvent } from '../contracts/trainer-protocol.ts';
import { claimOfGang, readCheckpoint } from '../storage/claim.ts';
import { createShareGiver, type ShareGiver } from '../storage/shares.ts';
import { untilAnswered } from '../storage/until-answered.ts';
import { type Attempt, openAttempt, type TrainingOptions, trainJob } from './attempt.ts';
import type { ChildEnd, SuperviseOptions } from './child.ts';
import { bringHere } from './claiming.ts';
import { classifyDeath } from './death.ts';
import { createEventLog } from './event-log.ts';
import { isBroken, isCascade, MemberDied, stateUnreadable } from './gang.ts';
import { timeToFollow, unlessAborted } from './last-writes.ts';
import { createLauncher, type Launched } from './launcher.ts';
import { forgetTrainer, recordTrainer } from './leftovers.ts';
import { deleteAllButNewest, deleteOtherClaims, openClaimFolder } from './local-checkpoints.ts';
import { countOomKills } from './oom-kills.ts';
import { changedRecipe, lineageOf, ranksOf } from './recipe-changes.ts';
import type { SavedState } from './saved-state.ts';
import { StopRequest, superseded } from './stop-request.ts';
import { deleteOtherWarmStates, deleteWarmStates, warmFolder } from './warm-state.ts';

/** Between looks for the claim, ms: a list of one small prefix. */
const LOOK_MS = 300;
/** The first host may still wait for its GPU, which an older trainer is leaving, ms. */
const CLAIM_MS_MAX = 5 * 60_000;
/** Between signs of life on this host's disk, ms. */
const ALIVE_MS = 60_000;
/** Between reports of the GPU time, ms: as often as heartbeats go out. */
const REPORT_MS = 1_000;
/** From SIGTERM to SIGKILL: a step, a save and some room, ms. */
const GRACE_MS = 30_000;

/** The part of a host that is not the first. Returns when its ranks are done. @throws MemberDied, or what ended the attempt. */
export async function trainAlong(options: TrainingOptions): Promise<void> {
  const attempt = await openAttempt(options);
  const { places, run, inputs, stop } = attempt;
  const claim = await awaitClaim(attempt);
  const lineage = lineageOf(inputs, claim.changes);
  const folder = await openClaimFolder(places.runFolder, claim.number, lineage);
  const resume = await bringHere(places, await stateOf(attempt, claim, lineage), folder, stop);
  if (resume === 'unreadable') throw stateUnreadable(claim, attempt.recipe);
  await forgetClaimsBefore(attempt, claim);
  const ranks = ranksOf(changedRecipe(attempt.recipe, claim.changes));
  let phase = 'load';
  const tell = (next = phase) => {
    phase = next;
    const gpuSeconds = (options.gpuSecondsBefore ?? 0) + (ranks * (Date.now() - attempt.startedMs)) / 1000;
    options.onProgress({ stage: 'train', phase, claim: claim.number, gpuSeconds });
  };
  tell();
  // Should the first host be lost, this is what is known of the GPU time.
  const report = setInterval(() => tell(), REPORT_MS);
  const events = createEventLog(places.runFolder);
  events.append({ ev: 'claim', claim: claim.number, lineage, from: claim.resumeFrom?.step ?? 0 });
  // Warm state of runs that give no sign of life is deleted when a worker starts.
  const beat = setInterval(() => events.append({ ev: 'alive' }), ALIVE_MS);
  const giver = giveShares(attempt, claim);
  const onEvent = (event: TrainerEvent) => {
    if (event.ev === 'phase') tell(event.phase);
    if (event.ev === 'checkpoint_saved') giver.offer(event);
  };
  const launcher = createLauncher({
    python: attempt.python,
    warmParent: attempt.warmParent,
    job: await trainJob(attempt, { claim, lineage, folder }),
    folder,
    signal: stop,
    silenceMsMax: () => Number.POSITIVE_INFINITY,
    onEvent,
    onColdStart: () => undefined,
  });
  let broken = false;
  try {
    const oomKills = countOomKills() ?? 0;
    const end = await runToEnd(attempt, (supervise) =>
      launcher.start(resume, { ...supervise, onEvent }, () => undefined),
    );
    broken = isBroken(end);
    if (end.outcome === 'done') {
      await unlessAborted(giver.drain(), stop);
    } else {
      stop.throwIfAborted();
      const death = classifyDeath({ end, oomKills: (countOomKills() ?? 0) - oomKills, phase: 'train' });
      // Steps are seen by the first host only.
      const unseen = { highest: 0, from: claim.resumeFrom?.step ?? 0, stepped: false };
      if (death.class === 'disk_full') await deleteAllButNewest(folder);
      const { microBatch } = changedRecipe(attempt.recipe, claim.changes);
      throw new MemberDied({ ...death, ...unseen }, { isCascade: isCascade(end), microBatch });
    }
  } catch (error) {
    await giveRest(attempt, giver, error, broken);
    throw error;
  } finally {
    attempt.uploads.abort();
    clearInterval(beat);
    clearInterval(report);
    events.close();
    await launcher.close();
  }
  if (places.warmRoot !== null) await deleteWarmStates(places.warmRoot, run);
}

async function runToEnd(
  { stop, state, run }: Attempt,
  start: (supervise: Omit<SuperviseOptions, 'onEvent'>) => Promise<Launched>,
): Promise<ChildEnd> {
  stop.throwIfAborted();
  const { child } = await start({
    signal: stop,
    graceMs: (reason) => (reason instanceof StopRequest ? reason.graceMs : GRACE_MS),
  });
  recordTrainer(state, child.pid, run);
  const end = await child.ended;
  forgetTrainer(state);
  return end;
}

function giveShares({ store, run, gang, uploads, fence }: Attempt, claim: Claim): ShareGiver {
  return createShareGiver({
    store,
    identity: { run, claim: claim.number },
    host: gang?.host ?? 0,
    signal: uploads.signal,
    onBroken: (error) =>
      fence.abort(error instanceof AnnealError && error.kind === 'fenced' ? superseded(error.message) : error),
  });
}

/** What the ranks saved together should be in the store before they are said to wait; the error that ended the attempt is reported anyway. */
async function giveRest({ stop }: Attempt, giver: ShareGiver, error: unknown, broken: boolean): Promise<void> {
  const limitMs = timeToFollow(error, stop, broken);
  if (limitMs === 0) return;
  giver.hurry();
  const limit = AbortSignal.timeout(limitMs);
  const isOwnStop = stop.aborted;
  await unlessAborted(giver.drain(), isOwnStop ? limit : AbortSignal.any([limit, stop])).catch(() => undefined);
}

async function awaitClaim({ store, claimant, stop }: Attempt): Promise<Claim> {
  const deadline = Date.now() + CLAIM_MS_MAX;
  for (;;) {
    const claim = await untilAnswered(() => claimOfGang(store, claimant), stop);
    if (claim !== null) return claim;
    if (Date.now() > deadline) {
      throw new AnnealError(
        'preempted',
        `The first host did not claim run ${claimant.run} within ${CLAIM_MS_MAX / 60_000} min; the gang begins anew.`,
      );
    }
    await sleep(LOOK_MS, undefined, { signal: stop });
  }
}

async function stateOf(
  { store, run, places, recipe, stop }: Attempt,
  claim: Claim,
  lineage: string,
): Promise<SavedState | null> {
  const from = claim.resumeFrom;
  if (from === null || claim.gang === null) return null;
  if (claim.gang.source === 'warm' && places.warmRoot !== null) {
    return { source: 'warm', ...from, lineage, folder: warmFolder(places.warmRoot, run, from.claim) };
  }
  const checkpoint = await untilAnswered(() => readCheckpoint(store, run, from), stop);
  if (checkpoint === null) throw stateUnreadable(claim, recipe);
  return { source: 'store', ...from, lineage: checkpoint.lineage, checkpoint };
}

/** What this claim resumes from stays until the next claim, should this one come to nothing. */
async function forgetClaimsBefore({ places, run }: Attempt, { number, resumeFrom }: Claim): Promise<void> {
  const kept = [number, ...(resumeFrom === null ? [] : [resumeFrom.claim])];
  await deleteOtherClaims(places.runFolder, ...kept);
  if (places.warmRoot !== null) await deleteOtherWarmStates(places.warmRoot, run, ...kept);
}
