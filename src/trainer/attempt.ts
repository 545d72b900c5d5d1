// What an attempt holds from its beginning to its end, and what it holds under one claim: the parts of the story in training.ts.
import { join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import type { FileSet } from '../contracts/records.ts';
import type { Recipe } from '../contracts/spec.ts';
import type { Progress } from '../contracts/status.ts';
import { PROTOCOL_VERSION, type TrainerEvent, type TrainJob } from '../contracts/trainer-protocol.ts';
import { type Committer, createCommitter } from '../storage/checkpoint.ts';
import type { Claimant } from '../storage/claim.ts';
import { getFolder } from '../storage/file-set.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { createReceiptWriter, type ReceiptWriter } from '../storage/receipts.ts';
import type { BaseModel } from './base-model.ts';
import type { Child, PythonConfig } from './child.ts';
import {
  type Claimed,
  type ClaimWish,
  claimRun,
  type EndOfClaim,
  endOfClaim,
  furthest,
  type Places,
} from './claiming.ts';
import { readEarlier } from './event-log.ts';
import { createJournal, type Journal } from './journal.ts';
import { createLauncher, type Launcher } from './launcher.ts';
import { deleteOtherClaims } from './local-checkpoints.ts';
import { LIMIT_RULES, type LimitRules } from './phase-limits.ts';
import { changedRecipe, type TrainingInputs } from './recipe-changes.ts';
import type { DeathOnRecord } from './recovery-policy.ts';
import { createSavePacing } from './save-pacing.ts';
import { superseded } from './stop-request.ts';
import type { WarmParent } from './warm-parent.ts';
import { deleteOtherWarmStates, describeWarm, openWarmRoot } from './warm-state.ts';

export interface TrainingOptions {
  store: ObjectStore;
  python: PythonConfig;
  /** The worker's; null = every trainer starts cold. */
  warmParent: WarmParent | null;
  /** Where shared memory is mounted; null = no warm state. */
  sharedMemory: string | null;
  /** This host's state folder. */
  state: string;
  claimant: Claimant;
  base: BaseModel;
  /** Files of the dataset; `train.safetensors` and, if there, `validation.safetensors` are read. */
  dataset: FileSet;
  recipe: Recipe;
  /** Step that the attempt before this one was seen at, for the receipt of a takeover; null for a first attempt. */
  stepBefore: number | null;
  /** Aborting saves at the next step edge and ends the trainer; a `StopRequest` as its reason says how fast. */
  signal: AbortSignal;
  /** Called when something changed; cheap. */
  onProgress: (progress: Progress) => void;
  /** What drills and tests set. */
  drill?: {
    /** Leaves a known hole of exactness open. */
    hole?: TrainJob['hole'];
    warmEverySteps?: number;
    limits?: LimitRules;
    /** Stands for `/` when control groups are read. */
    systemRoot?: string;
  };
}

/** Steps between checkpoints where the spec does not say and the pacing finds no reason for an earlier one. */
const SAVE_STEPS_MAX = 1_000;

/** What lasts as long as the attempt. */
export interface Attempt extends TrainingOptions {
  startedMs: number;
  run: string;
  inputs: TrainingInputs;
  shards: { train: string; validation: string | null };
  places: Places;
  /** Aborts with `signal`, and when a newer claim was seen. */
  stop: AbortSignal;
  fence: AbortController;
  uploads: AbortController;
  receipts: ReceiptWriter;
  deaths: DeathOnRecord[];
  claims: number[];
  /** Of the claim that is held, or null before the first. */
  held: HeldClaim | null;
}

/** A claim with what works for it. */
export interface HeldClaim extends Claimed {
  journal: Journal;
  committer: Committer;
  launcher: Launcher;
  /** Takes an event of its trainers in; false when it is no sign of progress. */
  observe(event: TrainerEvent): boolean;
  /** The trainer that runs, or null between two. */
  child: Child | null;
  /** The attempt takes another claim: nothing is committed under this one any more. */
  leave(): void;
}

export async function openAttempt(options: TrainingOptions): Promise<Attempt> {
  const { run } = options.claimant;
  const runFolder = join(options.state, 'gpu', 'runs', run);
  const fence = new AbortController();
  const uploads = new AbortController();
  return {
    ...options,
    startedMs: Date.now(),
    run,
    inputs: { baseDigest: options.base.digest, dataset: options.dataset, recipe: options.recipe },
    shards: await fetchShards(options, join(runFolder, 'dataset')),
    places: {
      store: options.store,
      runFolder,
      warmRoot: await openWarmRoot(options.sharedMemory, options.state),
      refused: new Set(),
    },
    stop: AbortSignal.any([options.signal, fence.signal]),
    fence,
    uploads,
    receipts: createReceiptWriter(options.store, run, uploads.signal),
    deaths: [],
    claims: [],
    held: null,
  };
}

async function fetchShards(
  { store, dataset, signal }: TrainingOptions,
  folder: string,
): Promise<{ train: string; validation: string | null }> {
  const wanted = dataset.files.filter((file) => ['train.safetensors', 'validation.safetensors'].includes(file.path));
  await getFolder(store, { digest: dataset.digest, files: wanted }, folder, signal);
  const has = (path: string) => wanted.some((file) => file.path === path);
  if (!has('train.safetensors')) {
    throw new AnnealError('bad_request', 'The dataset has no train.safetensors; run preprocess again.');
  }
  return {
    train: join(folder, 'train.safetensors'),
    validation: has('validation.safetensors') ? join(folder, 'validation.safetensors') : null,
  };
}

export async function holdClaim(attempt: Attempt, wish: ClaimWish): Promise<HeldClaim> {
  const { places, claimant, inputs, stop, held: before } = attempt;
  stop.throwIfAborted();
  before?.leave();
  const claimed = await claimRun(places, claimant, inputs, wish, stop);
  const end = before === null && claimed.before !== null ? await endOfClaim(attempt.store, claimed.before) : null;
  const journal = before?.journal ?? (await openJournal(attempt, claimed, end));
  journal.claimed(claimed.claim.number, claimed.lineage, claimed.state?.step ?? 0, claimed.folder);
  if (end !== null) noteTakeover(attempt, claimed, journal, end);
  attempt.claims.push(claimed.claim.number);
  attempt.held = await equip(attempt, claimed, journal);
  return attempt.held;
}

async function equip(attempt: Attempt, claimed: Claimed, journal: Journal): Promise<HeldClaim> {
  const { run, recipe } = attempt;
  const claim = claimed.claim.number;
  const left = new AbortController();
  const pacing = recipe.saveSteps === null ? createSavePacing(Date.now()) : null;
  const committer = createCommitter({
    store: attempt.store,
    identity: { run, claim, lineage: claimed.lineage },
    retention: { chain: claimed.chain, keep: recipe.keep },
    signal: AbortSignal.any([attempt.uploads.signal, left.signal]),
    onCommitted: (cpuSeconds) => {
      pacing?.committed(cpuSeconds);
      // What is still there is deleted after the next commit.
      void forgetOlderClaims(attempt, claim).catch(() => undefined);
    },
    onRefused: (message) => journal.notice('checkpoint_corrupt', message),
    onBack: (sinceMs, why) =>
      journal.notice(
        'store_unavailable',
        `Commits waited ${Math.ceil((Date.now() - sinceMs) / 1000)} s for the object store while the training went on: ${why}`,
      ),
    onBroken: (error) => {
      if (error instanceof AnnealError && error.kind === 'fenced') attempt.fence.abort(superseded(error.message));
    },
  });
  const observe = (event: TrainerEvent): boolean => {
    const nowMs = Date.now();
    const { isProgress, isOurs } = journal.observe(event);
    if (event.ev === 'checkpoint_saved' && isOurs) {
      pacing?.saved(event.seconds, nowMs);
      committer.offer(event, journal.goodput());
    }
    if (event.ev === 'step' && pacing?.isDue(nowMs)) {
      pacing.asked(nowMs);
      held.child?.askToSave();
    }
    attempt.onProgress({ ...journal.progress(), ...showCommits(committer, claimed), claim });
    return isProgress;
  };
  const launcher = createLauncher({
    python: attempt.python,
    warmParent: attempt.warmParent,
    job: await trainJob(attempt, claimed),
    folder: claimed.folder,
    signal: attempt.stop,
    silenceMsMax: journal.silenceMsMax,
    onEvent: observe,
    onColdStart: (why) => journal.notice('cold_start', `Trainers start cold: ${why}.`),
  });
  const held: HeldClaim = { ...claimed, journal, committer, launcher, observe, child: null, leave: () => left.abort() };
  return held;
}

/** Until this claim has a checkpoint of its own, the one that it resumed from is the newest. */
function showCommits(committer: Committer, { claim, state }: Claimed): Pick<Progress, 'checkpoint' | 'waitingFor'> {
  const step = committer.committedStep();
  const before = state?.source === 'warm' ? null : state;
  const newest = step === null ? before : { step, claim: claim.number };
  const waitingFor = committer.waitingFor();
  return {
    ...(newest === null ? {} : { checkpoint: `step ${newest.step} (claim ${newest.claim})` }),
    ...(waitingFor === null ? {} : { waitingFor }),
  };
}

async function trainJob(attempt: Attempt, { claim, lineage, folder }: Claimed): Promise<TrainJob> {
  const { recipe, shards, base, drill, run } = attempt;
  const { warmRoot } = attempt.places;
  const warm = warmRoot === null ? null : await describeWarm(warmRoot, { run, claim: claim.number, lineage });
  return {
    v: PROTOCOL_VERSION,
    command: 'train',
    baseModel: base.folder,
    baseName: base.name,
    ...shards,
    output: folder,
    resume: null,
    warm: warm && { ...warm, everySteps: drill?.warmEverySteps ?? null },
    hole: drill?.hole ?? null,
    recipe: {
      ...changedRecipe(recipe, claim.changes),
      orderBatch: recipe.microBatch,
      saveSteps: recipe.saveSteps ?? SAVE_STEPS_MAX,
    },
  };
}

async function openJournal(attempt: Attempt, claimed: Claimed, end: EndOfClaim | null): Promise<Journal> {
  const { places, receipts, recipe, drill } = attempt;
  const { state, claim } = claimed;
  const earlier = await readEarlier(places.runFolder, claimed.lineage);
  return createJournal({
    runFolder: places.runFolder,
    receipts,
    processes: recipe.processes,
    rules: drill?.limits ?? LIMIT_RULES,
    from: state?.step ?? 0,
    runStartedMs: claim.runStartedMs,
    carried: furthest(state?.source === 'store' ? state.checkpoint.goodput : null, earlier?.goodput ?? null),
    earlier,
    takeover: end?.kind ?? null,
  });
}

/** The attempt before this one ended with its host, without an answer, or it was told to stop. */
function noteTakeover(attempt: Attempt, { claim, state }: Claimed, journal: Journal, end: EndOfClaim): void {
  journal.tookOver(
    {
      kind: end.kind,
      message: end.why,
      atStep: Math.max(end.step, attempt.stepBefore ?? 0, journal.highestStep()),
      resumedFrom: state?.step ?? 0,
      action: 'taken_over',
      exact: claim.changes.length === 0,
    },
    end.atMs ?? journal.lastSeenMs(),
  );
}

/** Once this claim has something in the store, nobody goes back to what older ones left on this host. */
async function forgetOlderClaims({ places, run }: Attempt, claim: number): Promise<void> {
  await deleteOtherClaims(places.runFolder, claim);
  if (places.warmRoot !== null) await deleteOtherWarmStates(places.warmRoot, run, claim);
}
