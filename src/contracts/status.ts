// What people and programs see of a run: the answer to the `status` query, heartbeat details, and the result. Types only.
import type { Budget } from './budget.ts';
import type { FailureKind } from './failure.ts';
import type { GangSize } from './gang-size.ts';
import type { Stage } from './names.ts';
import type { Evaluation } from './records.ts';
import type { Accounts } from './rows.ts';
import type { TrainResultSummary } from './stages.ts';

export type StageState = 'waiting' | 'running' | 'done' | 'failed' | 'skipped';

export interface StageStatus {
  stage: Stage;
  state: StageState;
  /** Wall-clock seconds, null until it is done. */
  seconds: number | null;
  /** One line of what came out of it. */
  outcome: string | null;
}

export interface RunStatus {
  run: string;
  name: string;
  model: string;
  stages: StageStatus[];
  data: Accounts | null;
  /** Address of the data card. */
  card?: string | null;
  /** Of the sources together. */
  sourceBytes?: number;
  /** What this run's preprocess took; absent where the dataset was made before. */
  preprocessSeconds?: number;
  evaluation: Omit<Evaluation, 'predictions'> | null;
  training: Omit<TrainResultSummary, 'record' | 'outcome'> | null;
  version: number | null;
  endpoint: string | null;
  /** null while it is not paused. */
  paused?: Pause | null;
  /** Who paused, resumed or gave another budget, oldest first, at most the last fifty. */
  decisions?: Decision[];
  /** Hosts and ranks that somebody wants in place of the spec's; absent = nobody does. */
  size?: GangSize;
  /** GPU seconds that the training had used when it last stopped or ended. */
  gpuSeconds?: number;
  failure: { kind: FailureKind | 'cancelled'; message: string } | null;
}

/** The training waits: the GPU is free, and its state is saved. */
export interface Pause {
  kind: 'requested' | 'budget_reached' | 'rung';
  /** The trainer is still saving. */
  isSaving: boolean;
  /** ISO time. */
  since: string;
  by: string;
  why: string;
  /** Last step that is done; null when it had not begun. */
  step: number | null;
}

export interface Decision {
  at: string;
  by: string;
  what: string;
  why: string;
}

/** Argument of the Updates. `by` is what the caller says of itself: nothing here proves it. */
export interface PauseRequest {
  by?: string;
  why?: string;
}
/** The fields that are given replace the budget's. */
export interface BudgetRequest extends PauseRequest {
  budget?: Partial<Budget>;
}

/** What is left out of the size stays as it is. A training that is not paused saves and goes on at once with another size. */
export interface ResumeRequest extends BudgetRequest, Partial<GangSize> {}

/** Second argument of a run that belongs to a sweep. */
export interface Trial {
  sweep: string;
  /** Shares of the steps at which it waits for the sweep's word, ascending; 1 = when its training is done. */
  rungs: number[];
  /** Present where the sweep has a budget. */
  allotment?: Allotment;
}

/** A trial's part of its sweep's budget. */
export interface Allotment {
  /** That it may have used, over all attempts, at its next stop; null = as many as it needs. */
  gpuSeconds: number | null;
}

/** A trial waits at a rung. */
export interface RungReached {
  run: string;
  share: number;
  step: number;
  evalLoss: number | null;
  /** That it has used; absent in runs of before. */
  gpuSeconds?: number;
}

/** People, its budget, or its part of its sweep's have paused a trial before its rung. */
export interface TrialHeld {
  run: string;
  step: number | null;
  /** By whom and why; null = it goes on again. */
  why: string | null;
  /** Its budget is used up. */
  isOutOfBudget: boolean;
  /** It waits for its sweep to allot it more. */
  needsMore?: boolean;
  gpuSeconds?: number;
}

export interface TrialStatus {
  run: string;
  /** What differs from the sweep's spec, such as `train.learningRate=0.001`. */
  changes: string;
  /** `paused`: at its rung. `held`: before it, by people or by its budget. */
  state: 'waiting' | 'training' | 'paused' | 'held' | 'lost' | 'won' | 'done' | 'failed';
  /** Share of the steps that it has reached. */
  share: number;
  step: number | null;
  evalLoss: number | null;
  /** Why it is held, lost or failed. */
  why: string | null;
  /** Held by its budget: only people can let it go on. */
  isOutOfBudget: boolean;
  /** GPU seconds that it had used when it last stopped. */
  gpuSeconds?: number;
}
export interface SweepStatus {
  sweep: string;
  name: string;
  rungs: number[];
  trials: TrialStatus[];
  winner: string | null;
  /** The winner's own end. */
  result: RunStatus | null;
  /** Of all trials together; absent = none, and in sweeps of before. */
  budget?: Budget;
  /** What it needs of people before it can go on; null while it does not. */
  asks?: string | null;
}

/** What a `Retraining` workflow ends with. */
export interface RetrainingResult {
  run: string;
  /** Why nothing was trained, or null. */
  skipped: string | null;
  status: RunStatus | null;
}

/** Heartbeat details of the stage that runs; operators read them in the Web UI's Pending Activities tab. */
export interface Progress {
  stage: Stage;
  /** What is being done: `load`, `train`, `evaluate`, `save`, `upload`, `tokenise`, … */
  phase: string;
  step?: number;
  of?: number;
  loss?: number;
  /** The loss from the first step until now, as a line of bars. */
  curve?: string;
  /** Such as `1.832 at step 60, best 1.790 at step 45`. */
  validation?: string;
  tokensPerSecond?: number;
  /** Human-readable time left, such as `2 min 10 s`. */
  eta?: string;
  /** Last checkpoint committed to the store, such as `step 50 (claim 1)`. */
  checkpoint?: string;
  /** Times that the trainer was started again. */
  recoveries?: number;
  /** Over all attempts of the run. */
  gpuSeconds?: number;
  /** What it waits for, if anything. */
  waitingFor?: string;
  /** Share of the wall time that went into steps that count, such as `93 %`. */
  goodput?: string;
  /** What somebody should look at, such as a step that was done again and came out differently. */
  alarm?: string;
  claim?: number;
}
