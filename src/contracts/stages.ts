// Inputs and results of the stages' activities. Results hold what people and the next stage need; the whole record lies in the store
// under `record`, so that history holds references, never rows. Types only.

import type { GangSize } from './gang-size.ts';
import type { LearningCurve } from './learning-curve.ts';
import type { Evaluation } from './records.ts';
import type { Accounts } from './rows.ts';
import type { Spec, SpecInput } from './spec.ts';

export interface Outcome {
  /** One line of what came out, for the stage table. */
  outcome: string;
}

export interface StageInput {
  run: string;
  spec: Spec;
}

export interface CheckSpecInput {
  input: SpecInput | undefined;
}

export interface IngestResult extends Outcome {
  snapshot: string;
  /** By source and then by evaluation suite, as they were read: two with the same bytes may have other ETags. */
  contents: { sha256: string; etag: string | null }[];
  /** Snapshot of the evaluation suites; null = the spec has none; absent in results of older versions. */
  suites?: string | null;
  sizeBytes: number;
}

export interface PreprocessInput extends StageInput {
  snapshot: string;
  /** As ingest gave it; absent = the suites are read by preprocess. */
  suites?: string | null;
}
export interface PreprocessResult extends Outcome {
  dataset: string;
  accounts: Accounts;
  trainTokens: number;
  /** Address of the data card; absent where there is no gateway to show it. */
  card?: string;
  /** Wall-clock time from the plan of the ranges to the card; absent where the dataset was made before. */
  seconds?: number;
}

/** Every activity of a preparation but the first finds the spec and the ranges by this digest. */
export interface PreparationRef {
  run: string;
  preparation: string;
}
export interface PlanRangesResult extends Outcome {
  preparation: string;
  ranges: number;
  /** The dataset, where this input was prepared before. */
  done: PreprocessResult | null;
}
export interface RangeInput extends PreparationRef {
  /** From 0 on. */
  range: number;
}
export interface CleanRangeResult extends Outcome {
  /** Digest of the record. */
  cleaned: string;
}
export interface ResolveRowsInput extends PreparationRef {
  /** By range. */
  cleaned: string[];
}
export interface ResolveRowsResult extends Outcome {
  /** Key of the record. */
  resolution: string;
}
export interface TokeniseRangeInput extends RangeInput {
  cleaned: string;
  resolution: string;
}
export interface TokeniseRangeResult extends Outcome {
  /** Key of the record. */
  tokenised: string;
}
export interface FinishDatasetInput extends ResolveRowsInput {
  /** When the stage began, ms; absent in runs that began before it was noted. */
  startedMs?: number;
  resolution: string;
  /** By range. */
  tokenised: string[];
}

export interface TrainInput extends StageInput, TrainLimits {
  dataset: string;
  /** Hosts and ranks that somebody wants in place of the spec's. */
  size?: GangSize;
}
/** Where a training stops before its end; what is absent is no limit. */
/** Of a training that is to go on with another number of hosts or ranks. */
export interface CheckSizeInput extends StageInput {
  /** Digest of the dataset. */
  dataset: string;
  from: GangSize;
  to: GangSize;
}

export interface TrainLimits {
  /** Share of the steps, above 0 and below 1. */
  pauseAt?: number;
  /** Over all attempts of the run. */
  gpuSecondsMax?: number;
  /** The same in dollars, by the price table of the GPU worker. */
  costUsdMax?: number;
  /** What earlier attempts have used, as far as the workflow knows. */
  gpuSecondsBefore?: number;
}
/** The training has stopped before its end, with everything saved. */
export interface TrainPaused extends Outcome {
  paused: {
    kind: 'rung' | 'budget_reached';
    /** null = it had not come so far as to know. */
    step: number | null;
    evalLoss: number | null;
    gpuSeconds: number;
    /** By which `costUsdMax` was counted. */
    pricePerGpuHour?: number;
  };
}
/** What a training that was told to stop leaves behind: the details of its cancellation. null = it had not begun. */
export interface TrainStopped {
  step: number | null;
  gpuSeconds: number | null;
}
export interface TrainResultSummary extends Outcome {
  record: string;
  step: number;
  loss: number;
  evalLoss?: number | null;
  /** Thinned for people; the record has more. */
  curve?: LearningCurve;
  gpuSeconds?: number;
  trainableParameters: number;
  totalParameters: number;
  recoveries: number;
  weightsSha256: string;
  /** Share of the wall time (0 to 1) that went into steps and evaluations that the run needed, and the seconds lost by cause. */
  goodput: { share: number; lostSeconds: Record<string, number> };
}

export interface EvaluateInput extends StageInput {
  dataset: string;
  training: string;
}
export interface EvaluateResult extends Outcome {
  record: string;
  evaluation: Omit<Evaluation, 'predictions'>;
}

export interface RegisterInput extends StageInput {
  dataset: string;
  training: string;
  evaluation: string;
}
export interface RegisterResult extends Outcome {
  model: string;
  version: number;
  digest: string;
}

export interface DeployInput extends StageInput {
  model: string;
  version: number;
}
export interface DeployResult extends Outcome {
  endpoint: string;
  url: string;
}

export interface PlanRetrainingInput extends Pick<IngestResult, 'snapshot' | 'contents' | 'suites'> {
  /** Absent in histories of older versions; 0 = the sources gave nothing new. */
  sizeBytes?: number;
  spec: Spec;
}
export interface RetrainingPlan {
  /** Run id of this content, the same as `anneal run` gives it. */
  run: string;
  /** Why there is nothing to do, or null. */
  skip: string | null;
}
