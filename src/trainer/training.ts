// One attempt to train, told from its beginning to its end: it claims the run where the newest state is, keeps a trainer alive until it
// is done, and stores the result. A trainer that dies is replaced at once, without anybody else noticing (level 0 of recovery).
//
// An attempt holds one claim, and takes another only to resume elsewhere than that one says: from an older checkpoint, or with a
// smaller batch. Under a claim there are tries, each one trainer. `decideRecovery` judges each trainer's end.
import { isExact } from '../contracts/gang-size.ts';
import type { Training } from '../contracts/records.ts';
import { type TrainResult, TrainResultSchema } from '../contracts/trainer-protocol.ts';
import { putFolder } from '../storage/file-set.ts';
import { readReceipts } from '../storage/receipts.ts';
import { type Attempt, type HeldClaim, holdClaim, openAttempt, type TrainingOptions } from './attempt.ts';
import type { ChildEnd } from './child.ts';
import { type Claimed, type ClaimWish, NEWEST, nextState, refuseState, sayGoodbye } from './claiming.ts';
import { classifyDeath, type DeathClass } from './death.ts';
import { isBroken, isCascade, MemberDied, wishOf } from './gang.ts';
import type { Journal } from './journal.ts';
import { timeToWrite, unlessAborted } from './last-writes.ts';
import { forgetTrainer, recordTrainer } from './leftovers.ts';
import { deleteAllButNewest } from './local-checkpoints.ts';
import { countOomKills } from './oom-kills.ts';
import { changedRecipe } from './recipe-changes.ts';
import { type DeathOnRecord, decideRecovery, type RecoveryStep } from './recovery-policy.ts';
import { PauseReached, StopRequest } from './stop-request.ts';
import { deleteWarmStates } from './warm-state.ts';

/** From SIGTERM to SIGKILL: a step, a save and some room, ms. */
const GRACE_MS = 30_000;
/** Deaths that a fork may have caused. */
const UNCLEAR: DeathClass[] = ['crashed', 'stalled', 'exception'];

/** @throws AnnealError whose kind says whether another attempt makes sense. Before that, what was saved is committed. */
export async function train(options: TrainingOptions): Promise<Training> {
  const attempt = await openAttempt(options);
  try {
    for (let wish = attempt.gang ? wishOf(attempt.gang) : NEWEST; ; ) {
      const outcome = await trainUnder(await holdClaim(attempt, wish), attempt);
      if ('result' in outcome) return await finish(attempt, outcome.held, outcome.result);
      wish = outcome.wish;
    }
  } catch (error) {
    await giveUp(attempt, error);
    throw error;
  } finally {
    attempt.uploads.abort();
    attempt.held?.journal.close();
  }
}

type Outcome = { held: HeldClaim; result: TrainResult } | { wish: ClaimWish };

/** Starts trainers until one is done, or another claim is needed. Throws when the attempt must end. */
async function trainUnder(held: HeldClaim, attempt: Attempt): Promise<Outcome> {
  let from: From = held;
  try {
    for (;;) {
      const { end, death } = await tryOnce(attempt, held, from);
      if (death === null) {
        // With a store that is away this lasts until it is back; told to stop, `giveUp` decides what of it there is time for.
        await unlessAborted(held.committer.drain(), attempt.stop);
        return { held, result: TrainResultSchema.parse(end.result) };
      }
      if (attempt.gang !== undefined) return await leaveGang(attempt, held, end, death);
      attempt.deaths.push(death);
      const step = decideRecovery(attempt.deaths, changedRecipe(attempt.recipe, held.claim.changes));
      noteRecovery(attempt, held, death, step);
      switch (step.action) {
        case 'stopped':
          throw step.error;
        case 'older_checkpoint':
          return { wish: { ...NEWEST, below: death.from } };
        case 'smaller_batch':
          return { wish: { ...NEWEST, factor: step.factor } };
        case 'state_dropped':
          await refuseState(attempt.places, from);
          break;
        case 'disk_freed':
          await deleteAllButNewest(held.folder);
          break;
        case 'replayed':
        case 'restarted':
          break;
        default:
          step satisfies never;
      }
      from = await nextState(attempt.places, held, step.action !== 'replayed', attempt.stop);
    }
  } finally {
    await held.launcher.close();
  }
}

/** What is done about a death in a gang of several hosts is decided for all of them. */
async function leaveGang(attempt: Attempt, held: HeldClaim, end: ChildEnd, death: DeathOnRecord): Promise<never> {
  if (death.class === 'disk_full') await deleteAllButNewest(held.folder);
  const { microBatch } = changedRecipe(attempt.recipe, held.claim.changes);
  throw new MemberDied(death, { isCascade: isCascade(end), microBatch });
}

type From = Pick<Claimed, 'state' | 'resume'>;

/** One trainer from its start to its end. `death` is null when it is done. */
async function tryOnce(
  attempt: Attempt,
  held: HeldClaim,
  { state, resume }: From,
): Promise<{ end: ChildEnd; death: DeathOnRecord | null }> {
  const { stop, drill, state: hostState, run } = attempt;
  const { journal, launcher } = held;
  stop.throwIfAborted();
  const oomKills = countOomKills(drill?.systemRoot) ?? 0;
  const { child, isFork } = await launcher.start(
    resume,
    {
      signal: stop,
      graceMs: (reason) => (reason instanceof StopRequest ? reason.graceMs : GRACE_MS),
      silenceMsMax: journal.silenceMsMax,
      onEvent: held.observe,
    },
    journal.began,
  );
  held.child = child;
  recordTrainer(hostState, child.pid, run);
  const end = await child.ended;
  held.child = null;
  forgetTrainer(hostState);
  noteOddities(journal, end);
  attempt.isBroken = attempt.gang !== undefined && isBroken(end);
  if (end.outcome === 'done' && TrainResultSchema.safeParse(end.result).success) return { end, death: null };
  stop.throwIfAborted();
  const pause = journal.pause();
  if (pause !== null && end.outcome === 'interrupted') {
    throw new PauseReached('rung', `Step ${pause.step} is where the training waits.`, pause.evalLoss);
  }

  const oomKillsSince = (countOomKills(drill?.systemRoot) ?? 0) - oomKills;
  const death = classifyDeath({ end, oomKills: oomKillsSince, phase: journal.phase() });
  if (death.class === 'stalled') journal.stalled();
  const stepped = journal.hasStepped();
  // What forks badly may start well.
  if (isFork && !stepped && UNCLEAR.includes(death.class))
    await launcher.distrust('a fork ended before its first step');
  return { end, death: { ...death, highest: journal.highestStep(), from: state?.step ?? 0, stepped } };
}

function noteOddities(journal: Journal, { garbage, forced, reason }: ChildEnd): void {
  if (garbage !== null) {
    journal.notice('garbage_on_channel', `The trainer wrote to its event channel what is no event: ${garbage}`);
  }
  if (forced && reason === 'aborted') {
    journal.notice(
      'ignored_sigterm',
      'The trainer did not end in time after SIGTERM and was killed; its last state stays.',
    );
  }
}

function noteRecovery(
  { recipe }: Attempt,
  { journal, claim }: HeldClaim,
  death: DeathOnRecord,
  step: RecoveryStep,
): void {
  journal.recovered({
    kind: step.action === 'stopped' ? step.error.kind : death.kind,
    message: death.message,
    // Until the next trainer says where it resumes.
    resumedFrom: death.from,
    action: step.action,
    exact: isExact(recipe, claim.changes) && step.action !== 'smaller_batch',
  });
}

async function finish(
  attempt: Attempt,
  { journal, claim, lineage }: HeldClaim,
  result: TrainResult,
): Promise<Training> {
  const { store, run, places } = attempt;
  journal.finishing();
  const adapter = await putFolder(store, result.adapter, attempt.stop);
  const outputs: Training['outputs'] = {};
  for (const { name, path } of result.outputs) outputs[name] = await putFolder(store, path, attempt.stop);
  await attempt.receipts.drain();
  const earlier = (await readReceipts(store, run)).filter((receipt) => !attempt.claims.includes(receipt.claim));
  if (places.warmRoot !== null) await deleteWarmStates(places.warmRoot, run);
  return {
    claim: claim.number,
    adapter,
    outputs,
    lineage,
    baseDigest: attempt.base.digest,
    result,
    receipts: [...earlier, ...journal.receipts()],
    findings: journal.findings(),
    changes: claim.changes,
    goodput: journal.goodput(),
    curve: journal.curve(),
    seconds: (Date.now() - attempt.startedMs) / 1000,
  };
}

/** The attempt ends without a result: what is saved is committed, and the next attempt learns why, if there is time. */
async function giveUp({ held, stop, store, receipts, isBroken }: Attempt, error: unknown): Promise<void> {
  const limitMs = timeToWrite(error, stop, isBroken);
  if (held === null || limitMs === 0) return;
  const { committer, journal, claim } = held;
  const paused = error instanceof PauseReached || stop.reason instanceof PauseReached;
  const last = async () => {
    committer.hurry();
    await unlessAborted(Promise.all([committer.drain(), receipts.drain()]), AbortSignal.timeout(limitMs));
    const why = error instanceof Error ? error.message : String(error);
    if (stop.aborted || paused) await sayGoodbye(store, claim, { why, step: journal.highestStep(), paused });
  };
  // The error that ended the attempt is the one to report; what is not written in time, the next attempt does without.
  await last().catch(() => undefined);
}
