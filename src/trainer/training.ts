// One attempt to train: claims the run, resumes from the newest valid state, keeps a trainer alive until it is done, commits checkpoints.
// Level 0 of recovery lives here: a trainer that dies is started again without anybody else noticing.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import type { Checkpoint, Claim, FileSet, Training } from '../contracts/records.ts';
import type { Recipe } from '../contracts/spec.ts';
import {
  PROTOCOL_VERSION,
  type TrainerEvent,
  type TrainJob,
  type TrainResult,
  TrainResultSchema,
} from '../contracts/trainer-protocol.ts';
import { type Committer, createCommitter } from '../storage/checkpoint.ts';
import { type Claimant, takeClaim } from '../storage/claim.ts';
import { digestOf } from '../storage/digest.ts';
import { getFolder, putFolder } from '../storage/file-set.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { BaseModel } from './base-model.ts';
import { type ChildEnd, type PythonConfig, startChild } from './child.ts';
import { createEventLog } from './event-log.ts';
import { forgetTrainer, recordTrainer } from './leftovers.ts';
import { adoptCheckpoint, listLocalCheckpoints, openClaimFolder, sealedIn } from './local-checkpoints.ts';
import { createProgressMeter, type ProgressMeter } from './progress.ts';
import { decideRestart, type TrainerDeath } from './restart-policy.ts';

export interface TrainingOptions {
  store: ObjectStore;
  python: PythonConfig;
  /** This host's state folder. */
  state: string;
  claimant: Claimant;
  base: BaseModel;
  /** Files of the dataset; `train.safetensors` and, if there, `validation.safetensors` are read. */
  dataset: FileSet;
  recipe: Recipe;
  /** Step that the attempt before this one was seen at, for the receipt of a takeover; null for a first attempt. */
  stepBefore: number | null;
  /** Aborting saves at the next step edge and ends the trainer. */
  signal: AbortSignal;
  /** Called when something changed; cheap. */
  onProgress: (meter: ProgressMeter, committer: Committer, claim: number) => void;
}

/** From SIGTERM to SIGKILL: a step, a save and some room, ms. */
const GRACE_MS = 30_000;
/** What is still waiting to be committed when an attempt is told to stop gets so long, ms. */
const LAST_COMMIT_MS = 20_000;

export async function train(options: TrainingOptions): Promise<Training> {
  const started = Date.now();
  const lineage = lineageOf(options);
  const runFolder = join(options.state, 'gpu', 'runs', options.claimant.run);
  const inputs = await fetchInputs(options, runFolder);
  const { claim, resume } = await claimAndRestore(options, runFolder, lineage);
  const folder = await openClaimFolder(runFolder, claim.number, lineage);
  const uploads = new AbortController();
  const committer = createCommitter(options.store, { run: claim.run, claim: claim.number, lineage }, uploads.signal);
  const meter = createProgressMeter({ from: claim.resumeFrom?.step ?? 0, stepBefore: options.stepBefore });
  const events = createEventLog(runFolder);

  try {
    const result = await keepTraining({
      ...options,
      jobFor: (from) => trainJob(options, inputs, folder, from),
      resume,
      folder,
      claim,
      meter,
      onEvent: (event) => {
        events.append(event);
        meter.observe(event);
        if (event.ev === 'checkpoint_saved') committer.offer(event);
        options.onProgress(meter, committer, claim.number);
      },
    });
    await commitRest(committer, options.signal, uploads);
    const adapter = await putFolder(options.store, result.adapter, options.signal);
    return {
      claim: claim.number,
      adapter,
      lineage,
      baseDigest: options.base.digest,
      result,
      receipts: meter.receipts(),
      lossCurve: meter.lossCurve(),
      seconds: (Date.now() - started) / 1000,
    };
  } catch (error) {
    await commitRest(committer, AbortSignal.timeout(LAST_COMMIT_MS), uploads).catch(() => undefined);
    throw error;
  } finally {
    uploads.abort();
    events.close();
  }
}

/** What decides the weights. A checkpoint of another lineage is never resumed. */
function lineageOf({ base, dataset, recipe }: TrainingOptions): string {
  const shards = dataset.files
    .filter((file) => file.path.endsWith('.safetensors'))
    .map(({ path, sha256 }) => [path, sha256]);
  return digestOf({ protocol: PROTOCOL_VERSION, base: base.digest, shards, recipe });
}

async function fetchInputs(
  options: TrainingOptions,
  runFolder: string,
): Promise<{ train: string; validation: string | null }> {
  const folder = join(runFolder, 'dataset');
  const wanted = options.dataset.files.filter((file) =>
    ['train.safetensors', 'validation.safetensors'].includes(file.path),
  );
  await getFolder(options.store, { digest: options.dataset.digest, files: wanted }, folder, options.signal);
  const has = (path: string) => wanted.some((file) => file.path === path);
  if (!has('train.safetensors'))
    throw new AnnealError('bad_request', 'The dataset has no train.safetensors; run preprocess again.');
  return {
    train: join(folder, 'train.safetensors'),
    validation: has('validation.safetensors') ? join(folder, 'validation.safetensors') : null,
  };
}

/** Claims the run at the newest state that this host can read, and brings that state into the claim's folder. */
async function claimAndRestore(
  options: TrainingOptions,
  runFolder: string,
  lineage: string,
): Promise<{ claim: Claim; resume: string | null }> {
  const { store } = options;
  let restore: (folder: string) => Promise<string | null> = async () => null;
  const claim = await takeClaim(store, options.claimant, async (candidates) => {
    const local = (await listLocalCheckpoints(runFolder, lineage))[0];
    const committed = await firstOfLineage(candidates, lineage);
    if (local !== undefined && local.step >= (committed?.step ?? 0)) {
      restore = (folder) => adoptCheckpoint(local, folder);
      return { claim: local.claim, step: local.step };
    }
    if (committed === null) {
      restore = async () => null;
      return null;
    }
    restore = async (folder) => {
      const path = join(folder, `checkpoint-${committed.step}`);
      await getFolder(store, committed.files, path, options.signal);
      return path;
    };
    return { claim: committed.claim, step: committed.step };
  });
  const folder = await openClaimFolder(runFolder, claim.number, lineage);
  return { claim, resume: await restore(folder) };
}

async function firstOfLineage(candidates: AsyncIterable<Checkpoint>, lineage: string): Promise<Checkpoint | null> {
  for await (const candidate of candidates) if (candidate.lineage === lineage) return candidate;
  return null;
}

interface KeepTraining extends TrainingOptions {
  jobFor: (resume: string | null) => TrainJob;
  resume: string | null;
  folder: string;
  claim: Claim;
  meter: ProgressMeter;
  onEvent: (event: TrainerEvent) => void;
}

/** Starts trainers until one is done, the attempt is told to stop, or starting again is pointless. */
async function keepTraining(options: KeepTraining): Promise<TrainResult> {
  const { meter, signal, state } = options;
  const deaths: TrainerDeath[] = [];
  let resume = options.resume;
  for (;;) {
    signal.throwIfAborted();
    const from = meter.step();
    const end = await runTrainer(options, resume);
    forgetTrainer(state);
    if (end.outcome === 'done') {
      const parsed = TrainResultSchema.safeParse(end.result);
      if (parsed.success) return parsed.data;
    }
    signal.throwIfAborted();
    deaths.push({ end, step: meter.highestStep(), from });
    const decision = decideRestart(deaths);
    if (decision.action === 'stop') {
      meter.died({ kind: decision.error.kind, message: end.message, action: 'stopped', from: meter.step() });
      throw decision.error;
    }
    if (decision.dropCheckpoint && resume !== null) await rm(resume, { recursive: true, force: true });
    const newest = (await sealedIn(options.folder, options.claim.number))[0];
    resume = newest?.path ?? null;
    meter.died({ kind: decision.kind, message: end.message, action: 'restarted', from: newest?.step ?? 0 });
  }
}

async function runTrainer(options: KeepTraining, resume: string | null): Promise<ChildEnd> {
  await mkdir(options.folder, { recursive: true });
  const child = startChild({
    python: options.python,
    job: options.jobFor(resume),
    folder: options.folder,
    signal: options.signal,
    graceMs: GRACE_MS,
    silenceMsMax: () => options.meter.silenceMsMax(),
    onEvent: options.onEvent,
  });
  recordTrainer(options.state, child.pid, options.claim.run);
  return await child.ended;
}

function trainJob(
  options: TrainingOptions,
  inputs: { train: string; validation: string | null },
  folder: string,
  resume: string | null,
): TrainJob {
  const { method: _method, tuning: _tuning, ...recipe } = options.recipe;
  return {
    v: PROTOCOL_VERSION,
    command: 'train',
    baseModel: options.base.folder,
    baseName: options.base.name,
    ...inputs,
    output: folder,
    resume,
    recipe,
  };
}

/** Waits for commits that still run. With a store that is away this lasts until it is back or the signal aborts. */
async function commitRest(committer: Committer, signal: AbortSignal, uploads: AbortController): Promise<void> {
  const stop = () => uploads.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  await committer.drain().finally(() => signal.removeEventListener('abort', stop));
}
