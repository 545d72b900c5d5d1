// What people and programs see of a run: the answer to the `status` query, heartbeat details, and the result. Types only.
import type { FailureKind } from './failure.ts';
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
  evaluation: Omit<Evaluation, 'predictions'> | null;
  training: Omit<TrainResultSummary, 'record' | 'outcome'> | null;
  version: number | null;
  endpoint: string | null;
  failure: { kind: FailureKind | 'cancelled'; message: string } | null;
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
  tokensPerSecond?: number;
  /** Human-readable time left, such as `2 min 10 s`. */
  eta?: string;
  /** Last checkpoint committed to the store, such as `step 50 (claim 1)`. */
  checkpoint?: string;
  /** Times that the trainer was started again. */
  recoveries?: number;
  /** What it waits for, if anything. */
  waitingFor?: string;
  /** Share of the wall time that went into steps that count, such as `93 %`. */
  goodput?: string;
  /** What somebody should look at, such as a step that was done again and came out differently. */
  alarm?: string;
  claim?: number;
}
