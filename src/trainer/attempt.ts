// What an attempt holds from its beginning to its end, and what it holds under one claim: the parts of the story in training.ts.
import { join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import type { GangSeat } from '../contracts/gang.ts';
import { type GangSize, isExact } from '../contracts/gang-size.ts';
import type { Claim, FileSet } from '../contracts/records.ts';
import type { Split } from '../contracts/rows.ts';
import { isShardOf } from '../contracts/shards.ts';
import type { Recipe } from '../contracts/spec.ts';
import type { TrainLimits } from '../contracts/stages.ts';
import type { Progress } from '../contracts/status.ts';
import { PROTOCOL_VERSION, type TrainerEvent, type TrainJob } from '../contracts/trainer-protocol.ts';
import { type Committer, createCommitter } from '../storage/checkpoint.ts';
import type { Claimant } from '../storage/claim.ts';
import { getFolder } from '../storage/file-set.ts';
import { bringImages } from '../storage/images.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { createReceiptWriter, type ReceiptWriter } from '../storage/receipts.ts';
import type { BaseModel } from './base-model.ts';
import type { Child, PythonConfig } from './child.ts';
import {
  type ClaimEndKind,
  type Claimed,
  type ClaimWish,
  claimRun,
  type EndOfClaim,
  endOfClaim,
  furthest,
  type Placement,
  type Places,
} from './claiming.ts';
import { readEarlier } from './event-log.ts';
import { agreedStates, placeOf, ranksHere } from './gang.ts';
import { createJournal, type Journal } from './journal.ts';
import { createLauncher, type Launcher } from './launcher.ts';
import { furthestCurve } from './learning-curve.ts';
import { deleteOtherClaims } from './local-checkpoints.ts';
import { LIMIT_RULES, type LimitRules } from './phase-limits.ts';
import { changedRecipe, ranksOf, resolveRecipe, type TrainingInputs } from './recipe-changes.ts';
import type { DeathOnRecord } from './recovery-policy.ts';
import { createSavePacing } from './save-pacing.ts';
import { PauseReached, superseded } from './stop-request.ts';
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
  /** Files of the version that it continues; null or absent = it begins with the base model. */
  parent?: FileSet | null;
  /** Files of the dataset; `train.safetensors` and, if there, `validation.safetensors` are read. */
  dataset: FileSet;
  recipe: Recipe;
  /** Step that the attempt before this one was seen at, for the receipt of a takeover; null for a first attempt. */
  stepBefore: number | null;
  /** GPU seconds that the attempt before this one was seen to have used, those before it included. */
  gpuSecondsBefore?: number;
  /** Where it stops before its end. */
  limits?: Pick<TrainLimits, 'pauseAt' | 'gpuSecondsMax'>;
  /** Hosts and ranks in place of the recipe's. */
  size?: GangSize | undefined;
  /** This host's place in a gang of several; absent = it trains alone. */
  gang?: GangSeat;
  /** Whether the host at this place of the gang does nothing for it any more. */
  isHostGone?: (host: number) => Promise<boolean>;
  /** What this host's GPUs allow; absent = everything. */
  placement?: Placement;
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

/** What lasts as long as the attempt. */
export interface Attempt extends TrainingOptions {
  startedMs: number;
  run: string;
  inputs: TrainingInputs;
  shards: { train: string; validation: string | null };
  /** Where the version that it continues lies here. */
  parentFolder: string | null;
  places: Places;
  /** Aborts with `signal`, when a newer claim was seen, and when the budget is used up. */
  stop: AbortSignal;
  fence: AbortController;
  budget: AbortController;
  uploads: AbortController;
  receipts: ReceiptWriter;
  deaths: DeathOnRecord[];
  /** The gang's last trainers ended without having saved together. */
  isBroken: boolean;
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
  const { gang } = options;
  const runFolder = join(options.state, 'gpu', 'runs', run);
  const warmRoot = await openWarmRoot(options.sharedMemory, options.state);
  const fence = new AbortController();
  const budget = new AbortController();
  const uploads = new AbortController();
  return {
    ...options,
    startedMs: Date.now(),
    run,
    inputs: {
      baseDigest: options.base.digest,
      dataset: options.dataset,
      recipe: options.recipe,
      ...(options.parent && { parent: options.parent.digest }),
    },
    shards: await fetchShards(options, join(runFolder, 'dataset')),
    parentFolder: options.parent ? await fetchParent(options, options.parent, join(runFolder, 'parent')) : null,
    places: {
      store: options.store,
      runFolder,
      warmRoot,
      refused: new Set(),
      placement: placementOf(options),
      agreed: gang && agreedStates(gang, warmRoot, run),
      ranks: ranksHere(options.size ?? options.recipe, gang),
    },
    stop: AbortSignal.any([options.signal, fence.signal, budget.signal]),
    fence,
    budget,
    uploads,
    receipts: createReceiptWriter(options.store, run, uploads.signal),
    deaths: [],
    isBroken: false,
    claims: [],
    held: null,
  };
}

/** A gang's ranks are granted together: its hosts have GPUs for all of them. */
function placementOf({ placement, recipe, gang, size }: TrainingOptions): Placement {
  const { strategy = 'ddp', processesMax = Number.POSITIVE_INFINITY } = placement ?? {};
  return {
    strategy: recipe.strategy === 'auto' ? strategy : recipe.strategy,
    processesMax: gang === undefined ? processesMax : Number.POSITIVE_INFINITY,
    size,
  };
}

async function fetchParent({ store, signal }: TrainingOptions, files: FileSet, folder: string): Promise<string> {
  await getFolder(store, files, folder, signal);
  return folder;
}

async function fetchShards(
  { store, dataset, signal }: TrainingOptions,
  folder: string,
): Promise<{ train: string; validation: string | null }> {
  const shardsOf = (split: Split) => dataset.files.filter(({ path }) => isShardOf(path, split, 'safetensors'));
  const [train, validation] = [shardsOf('train'), shardsOf('validation')];
  await getFolder(store, { digest: dataset.digest, files: [...train, ...validation] }, folder, signal);
  if (train.length === 0) {
    throw new AnnealError('bad_request', 'The dataset has no train.safetensors; run preprocess again.');
  }
  const files = [...train, ...validation].map(({ path }) => join(folder, path));
  await bringImages(store, files, signal);
  return {
    train: join(folder, 'train.safetensors'),
    validation: validation.length > 0 ? join(folder, 'validation.safetensors') : null,
  };
}

export async function holdClaim(attempt: Attempt, wish: ClaimWish): Promise<HeldClaim> {
  const { places, claimant, inputs, stop, held: before } = attempt;
  stop.throwIfAborted();
  before?.leave();
  const claimed = await claimRun(places, claimant, inputs, wish, stop);
  const end = before === null && claimed.before !== null ? await endBefore(attempt, claimed.before) : null;
  const journal = before?.journal ?? (await openJournal(attempt, claimed, end));
  journal.claimed(claimed.claim.number, claimed.lineage, claimed.state?.step ?? 0, claimed.folder);
  if (end !== null) noteTakeover(attempt, claimed, journal, end);
  attempt.claims.push(claimed.claim.number);
  attempt.held = await equip(attempt, claimed, journal);
  return attempt.held;
}

/** A host of a broken gang is told to end as one that is to wait is: the gang knows better. */
async function endBefore({ store, gang }: Attempt, claim: Claim): Promise<EndOfClaim> {
  const end = await endOfClaim(store, claim);
  return end.kind === 'paused' && gang?.before ? { ...end, kind: 'preempted' } : end;
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
    hosts: { names: attempt.gang?.hosts ?? [], isGone: attempt.isHostGone },
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
      committer.offer(event, { goodput: journal.goodput(), curve: journal.curve() });
    }
    if (event.ev === 'step' && pacing?.isDue(nowMs)) {
      pacing.asked(nowMs);
      held.child?.askToSave();
    }
    keepBudget(attempt, journal);
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

function keepBudget({ limits, budget }: Attempt, journal: Journal): void {
  const { step, of, gpuSeconds = 0 } = journal.progress();
  if (gpuSeconds < (limits?.gpuSecondsMax ?? Number.POSITIVE_INFINITY) || budget.signal.aborted) return;
  // What is left costs next to nothing.
  if (step !== undefined && step === of) return;
  budget.abort(new PauseReached('budget_reached', `The training has used ${gpuSeconds} GPU seconds.`));
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

export async function trainJob(
  attempt: Attempt,
  { claim, lineage, folder }: Pick<Claimed, 'claim' | 'lineage' | 'folder'>,
): Promise<TrainJob> {
  const { recipe, shards, base, drill, run } = attempt;
  const { warmRoot } = attempt.places;
  const resolved = resolveRecipe(recipe, claim.changes, claim.strategy);
  const warm =
    warmRoot === null ? null : await describeWarm(warmRoot, { run, claim: claim.number, lineage }, resolved.hosts);
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
    pauseAt: attempt.limits?.pauseAt ?? null,
    gang: attempt.gang ? placeOf(attempt.gang, claim.number) : null,
    parent: attempt.parentFolder,
    recipe: resolved,
  };
}

async function openJournal(attempt: Attempt, claimed: Claimed, end: EndOfClaim | null): Promise<Journal> {
  const { places, receipts, recipe, drill } = attempt;
  const { state, claim } = claimed;
  const checkpoint = state?.source === 'store' ? state.checkpoint : null;
  const stored = checkpoint?.goodput ?? null;
  const earlier = await readEarlier(places.runFolder, claimed.lineage);
  return createJournal({
    runFolder: places.runFolder,
    receipts,
    processes: ranksOf(changedRecipe(recipe, claim.changes)),
    rules: drill?.limits ?? LIMIT_RULES,
    from: state?.step ?? 0,
    runStartedMs: claim.runStartedMs,
    carried: furthest(stored, earlier?.goodput ?? null),
    curve: furthestCurve(checkpoint?.curve ?? null, earlier?.curve ?? null),
    earlier,
    cause: end === null ? 'start' : causeAfter(end.kind),
    startedMs: attempt.startedMs,
    gpuSecondsBefore: Math.max(
      attempt.gpuSecondsBefore ?? 0,
      stored?.gpuSeconds ?? 0,
      earlier?.goodput.gpuSeconds ?? 0,
    ),
  });
}

function causeAfter(end: ClaimEndKind): string {
  return end === 'paused' ? 'paused' : `recovery:${end}`;
}

/** The attempt before this one ended with its host, without an answer, or it was told to stop. A pause is no recovery. */
function noteTakeover(attempt: Attempt, { claim, state }: Claimed, journal: Journal, end: EndOfClaim): void {
  if (end.kind === 'paused') return;
  const known = attempt.gang?.before ?? null;
  journal.tookOver(
    {
      kind: known?.kind ?? end.kind,
      message: known?.message ?? end.why,
      atStep: Math.max(end.step, known?.step ?? 0, attempt.stepBefore ?? 0, journal.highestStep()),
      resumedFrom: state?.step ?? 0,
      action: 'taken_over',
      exact: isExact(attempt.recipe, claim.changes),
    },
    end.atMs ?? journal.lastSeenMs(),
  );
}

/** Once this claim has something in the store, nobody goes back to what older ones left on this host. */
async function forgetOlderClaims({ places, run }: Attempt, claim: number): Promise<void> {
  await deleteOtherClaims(places.runFolder, claim);
  if (places.warmRoot !== null) await deleteOtherWarmStates(places.warmRoot, run, claim);
}
