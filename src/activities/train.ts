// Stage `train`: one attempt to train, under a confirmed lease and the host's GPU lock.
import { setTimeout as sleep } from 'node:timers/promises';
import { Context, getClient, type Info } from '@temporalio/activity';
import { CancelledFailure } from '@temporalio/common';
import type { GangSeat } from '../contracts/gang.ts';
import { describeSize, isExact } from '../contracts/gang-size.ts';
import { type LearningCurve, thinned } from '../contracts/learning-curve.ts';
import {
  type Dataset,
  DatasetSchema,
  type RecipeChange,
  type Rung,
  RungSchema,
  type Training,
  TrainingSchema,
  type Version,
} from '../contracts/records.ts';
import type { Recipe } from '../contracts/spec.ts';
import type { TrainInput, TrainPaused, TrainResultSummary, TrainStopped } from '../contracts/stages.ts';
import type { Progress } from '../contracts/status.ts';
import { requireMemory } from '../plan/admission.ts';
import { hourPriceHere, priced } from '../plan/budget-limit.ts';
import { placeTraining } from '../plan/placement.ts';
import { recordSpeed } from '../plan/speed.ts';
import { parentOf } from '../registry/parent.ts';
import { digestOf } from '../storage/digest.ts';
import { keys } from '../storage/keys.ts';
import { createJson, readJson } from '../storage/record.ts';
import type { TrainingOptions } from '../trainer/attempt.ts';
import { type BaseModel, openBaseModel } from '../trainer/base-model.ts';
import { shareOf } from '../trainer/goodput.ts';
import { withGpuLock } from '../trainer/gpu-lock.ts';
import { endLeftoverTrainer } from '../trainer/leftovers.ts';
import { changedRecipe } from '../trainer/recipe-changes.ts';
import { PauseReached, StopRequest } from '../trainer/stop-request.ts';
import { train } from '../trainer/training.ts';
import { holdLease, type Lease } from './lease.ts';
import type { GpuParts } from './parts.ts';
import { readRecord, rememberStage, runStage, type StageContext } from './stage.ts';

/** The lease learns of a cancel, a pause or a reset before the SDK does; its word must be waited for, because it is what the server hears, ms. */
const SDK_WORD_MS = 5_000;

export function createTrainActivities(parts: GpuParts) {
  return {
    async train(input: TrainInput): Promise<TrainResultSummary | TrainPaused> {
      return await runStage('train', (context) =>
        withLease(parts, input, context, (lease) => trainOnce({ parts, input, context, lease })),
      );
    },
  };
}

/** What the lease says of the end of an attempt counts for more than what the trainer made of it. */
export async function withLease<T>(
  parts: GpuParts,
  input: TrainInput,
  context: StageContext,
  work: (lease: Lease) => Promise<T>,
): Promise<T | TrainPaused> {
  const { info, cancelled } = Context.current();
  const lease = holdLease(context.progress, info.heartbeatTimeoutMs ?? 30_000);
  try {
    return await work(lease);
  } catch (error) {
    if (!lease.signal.aborted) return await pausedAtLimit(parts, input, context, error);
    if (!(lease.signal.reason instanceof StopRequest)) {
      await Promise.race([cancelled.catch(() => undefined), sleep(SDK_WORD_MS, undefined, { ref: false })]);
    }
    if (!Context.current().cancellationDetails?.cancelRequested) throw lease.signal.reason;
    const { step = null, gpuSeconds = null } = context.progress();
    throw new CancelledFailure('CANCELLED', [{ step, gpuSeconds } satisfies TrainStopped]);
  } finally {
    lease.stop();
  }
}

/** One attempt on this host. */
export interface Turn {
  parts: GpuParts;
  input: TrainInput;
  context: StageContext;
  lease: Lease;
  /** This host's place in a gang of several; absent = it trains alone. */
  gang?: GangSeat;
}

export async function trainOnce(turn: Turn): Promise<TrainResultSummary | TrainPaused> {
  const { parts, input } = turn;
  const { spec } = input;
  const rung = await rememberedRung(parts, input);
  if (rung !== null) return rung;
  const inputs = await readInputs(parts, input);
  const { key, value } = await rememberStage(parts.store, rememberedAs(input, inputs), () =>
    withHost(turn, inputs, async (options) => {
      const training = await train(options);
      if (training.changes.length === 0) await recordSpeed(options, spec.model.base, training);
      return training;
    }),
  );
  return summarise(key, spec.train, value);
}

/** What an earlier attempt brought to its end, or null. */
export async function recallTraining(
  parts: GpuParts,
  input: TrainInput,
): Promise<TrainResultSummary | TrainPaused | null> {
  const rung = await rememberedRung(parts, input);
  if (rung !== null) return rung;
  const { run, stage, input: decides, schema } = rememberedAs(input, await readInputs(parts, input));
  const key = keys.stage(run, stage, digestOf(decides));
  const training = await readJson(parts.store, key, schema);
  return training === null ? null : summarise(key, input.spec.train, training);
}

interface TrainInputs {
  dataset: Dataset;
  base: BaseModel;
  /** The version that the training continues. */
  parent: Version | null;
}

export async function readInputs(parts: GpuParts, { run, dataset, spec }: TrainInput): Promise<TrainInputs> {
  return {
    dataset: await readRecord(parts.store, keys.dataset(dataset), DatasetSchema),
    base: await openBaseModel(spec.model.base, parts.models),
    parent: await parentOf(parts.store, { run, from: spec.train.from }),
  };
}

function rememberedAs({ run, spec }: TrainInput, { dataset, base }: TrainInputs) {
  return {
    run,
    stage: 'train',
    input: { dataset: dataset.digest, base: base.digest, recipe: spec.train },
    schema: TrainingSchema,
  } as const;
}

/** Works with this host's GPUs, once nobody else does and the attempt is still the current one. */
export async function withHost<T>(
  { parts, input, context, lease: { signal, confirm }, gang }: Turn,
  { dataset, base, parent }: TrainInputs,
  work: (options: TrainingOptions) => Promise<T>,
): Promise<T> {
  const { run, spec } = input;
  const limits = await pricedHere(parts, input);
  return await withGpuLock(parts.state, signal, async () => {
    await endLeftoverTrainer(parts.state);
    await confirm();
    const { info } = Context.current();
    const before = info.heartbeatDetails as Progress | undefined;
    const onProgress = (phase: string) => context.report({ phase });
    const recipe = { ...spec.train, ...input.size };
    await requireMemory({ ...parts, run, base, dataset, recipe, signal, onProgress });
    return await work({
      ...parts,
      ...(gang && { gang, isHostGone: (host: number) => isMemberGone(info, host) }),
      claimant: {
        ...(gang && { gang: { epoch: gang.epoch, hosts: gang.hosts } }),
        run,
        workflowRunId: info.workflowExecution?.runId ?? '',
        attemptScheduledMs: info.currentAttemptScheduledTimestampMs,
        host: parts.host,
      },
      base,
      parent: parent?.files ?? null,
      dataset: dataset.files,
      recipe: spec.train,
      size: input.size,
      placement: await placeTraining(base.folder, recipe, parts.python.environment.CUDA_VISIBLE_DEVICES),
      stepBefore: before?.step ?? null,
      gpuSecondsBefore: Math.max(before?.gpuSeconds ?? 0, input.gpuSecondsBefore ?? 0),
      limits,
      signal,
      onProgress: context.report,
    });
  });
}

/** The part of another host in this host's gang has ended, or its worker is not heard of any more. */
async function isMemberGone({ workflowExecution, activityId }: Info, host: number): Promise<boolean> {
  const { workflowId = '', runId } = workflowExecution ?? {};
  const gang = getClient().workflow.getHandle(workflowId, runId);
  const described = await gang.describe().catch(() => null);
  // A server that does not answer tells nothing.
  if (described === null) return false;
  // Members are numbered by their place, at the end of their ids.
  const id = activityId.replace(/\d+$/, String(host));
  return !(described.raw.pendingActivities ?? []).some((pending) => pending.activityId === id);
}

/** The training has stopped at a limit of its own. A rung is remembered: whoever asks for it again is told the same. */
async function pausedAtLimit(
  parts: GpuParts,
  input: TrainInput,
  context: StageContext,
  error: unknown,
): Promise<TrainPaused> {
  if (!(error instanceof PauseReached) || error.why === 'asked') throw error;
  const { step = null, gpuSeconds = 0 } = context.progress();
  if (error.why === 'budget_reached')
    return describePause({
      kind: 'budget_reached',
      step,
      gpuSeconds,
      evalLoss: null,
      ...(await priceOf(parts, input)),
    });
  const rung: Rung = { step: step ?? 0, gpuSeconds, evalLoss: error.evalLoss };
  await createJson(parts.store, rungKey(input), rung);
  return describePause({ kind: 'rung', ...rung });
}

/** Dollars become GPU seconds at this host's price. */
async function pricedHere(parts: GpuParts, input: TrainInput): Promise<TrainInput> {
  const { pricePerGpuHour } = await priceOf(parts, input);
  return pricePerGpuHour === undefined ? input : priced(input, pricePerGpuHour);
}

/** Empty where no budget needs it. */
async function priceOf(parts: GpuParts, { costUsdMax, spec }: TrainInput): Promise<{ pricePerGpuHour?: number }> {
  return costUsdMax === undefined ? {} : { pricePerGpuHour: await hourPriceHere(parts, spec.train) };
}

async function rememberedRung({ store }: GpuParts, input: TrainInput): Promise<TrainPaused | null> {
  if (input.pauseAt === undefined) return null;
  const rung = await readJson(store, rungKey(input), RungSchema);
  return rung && describePause({ kind: 'rung', ...rung });
}

function rungKey({ run, dataset, spec, pauseAt }: TrainInput): string {
  return keys.stage(run, 'train-rung', digestOf({ dataset, base: spec.model.base, recipe: spec.train, pauseAt }));
}

function describePause(paused: TrainPaused['paused']): TrainPaused {
  const loss = paused.evalLoss === null ? '' : `, validation loss ${paused.evalLoss.toFixed(4)}`;
  return { paused, outcome: `waits after step ${paused.step ?? 0}${loss}` };
}

function describeChanges(recipe: Recipe, changes: RecipeChange[]): string[] {
  const last = changes.at(-1);
  if (last === undefined) return [];
  const { microBatch, processes, hosts } = changedRecipe(recipe, changes);
  const where =
    hosts === recipe.hosts && processes === recipe.processes ? '' : ` on ${describeSize({ hosts, processes })}`;
  return [
    `micro-batch ${microBatch}${where} from step ${last.atStep} on, ${isExact(recipe, changes) ? 'still' : 'not'} bit-exact`,
  ];
}

/** Each point is some 80 bytes of the run's history. */
const CURVE_POINTS_SHOWN = 40;

function curveForPeople({ steps, validations }: LearningCurve): LearningCurve {
  return { steps: thinned(steps, CURVE_POINTS_SHOWN), validations: thinned(validations, CURVE_POINTS_SHOWN) };
}

function summarise(record: string, recipe: Recipe, training: Training): TrainResultSummary {
  const { result, receipts, findings, changes, goodput, curve } = training;
  const share = (100 * result.trainableParameters) / result.totalParameters;
  const alarms = findings.filter(({ code }) => code === 'not_deterministic').length;
  const facts = [
    `${result.step} steps`,
    `loss ${result.trainLoss.toFixed(3)}`,
    ...(result.stoppedEarly && result.best !== null ? [`stopped early for step ${result.best.step}`] : []),
    `${share.toFixed(2)} % of the parameters`,
    ...(receipts.length === 0 ? [] : [`${receipts.length} ${receipts.length === 1 ? 'recovery' : 'recoveries'}`]),
    `goodput ${Math.round(100 * shareOf(goodput))} %`,
    ...describeChanges(recipe, changes),
    ...(alarms === 0 ? [] : [`${alarms} steps came out differently when done again`]),
  ];
  return {
    record,
    step: result.step,
    loss: result.trainLoss,
    evalLoss: result.evalLoss,
    ...(curve && { curve: curveForPeople(curve) }),
    gpuSeconds: goodput.gpuSeconds,
    trainableParameters: result.trainableParameters,
    totalParameters: result.totalParameters,
    recoveries: receipts.length,
    weightsSha256: result.weightsSha256,
    goodput: { share: shareOf(goodput), lostSeconds: goodput.lostSeconds },
    outcome: facts.join(', '),
  };
}
