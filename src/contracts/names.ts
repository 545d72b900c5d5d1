// The words that processes call each other by: stages, task queues, workflow and activity names, search attributes.
// Nothing here imports anything, so that workflows may use the values.

/** The six stages, in order. The same words name activities, CLI columns, metrics, object keys and README headings. */
export const STAGES = ['ingest', 'preprocess', 'train', 'evaluate', 'register', 'deploy'] as const;
export type Stage = (typeof STAGES)[number];

/** Who polls what: `control` runs workflows and light activities, `data` reads and tokenises, `gpu` trains and evaluates. */
export const TASK_QUEUES = { control: 'anneal-control', data: 'anneal-data', gpu: 'anneal-gpu' } as const;

export const WORKFLOWS = {
  fineTune: 'FineTune',
  retraining: 'Retraining',
  sweep: 'Sweep',
  trainingGang: 'TrainingGang',
  gpuPool: 'GpuPool',
} as const;

/** Registered on the server by the stack; all are keywords. */
export const SEARCH_ATTRIBUTES = { stage: 'AnnealStage', model: 'AnnealModel', dataset: 'AnnealDataset' } as const;

/** Query that answers with a `RunStatus`, while the run goes on and after its end; a sweep answers with a `SweepStatus`. */
export const STATUS_QUERY = 'status';

/** Updates of a run whose training goes on or is paused; each takes one object of `status.ts`. */
export const UPDATES = { pause: 'pause', resume: 'resume', budget: 'budget' } as const;

/**
 * Between a sweep and its runs: a run waits at a rung, the sweep lets it go on; a run waits for something else, or goes on again; the sweep
 * gives it another part of its budget.
 */
export const SIGNALS = {
  rungReached: 'rungReached',
  promote: 'promote',
  trialHeld: 'trialHeld',
  allot: 'allot',
} as const;

/** Value of the search attribute `stage` while a run is paused. */
export const PAUSED = 'paused';

/** Only the GPU worker of this host polls it. */
export function hostQueue(host: string): string {
  return `${TASK_QUEUES.gpu}-${host}`;
}

/** Workflow id of the one `GpuPool` of a namespace, and what it is told and asked; each takes one object of `pool.ts`. */
export const POOL = {
  id: 'anneal-gpu-pool',
  /** Signals. */
  registerHost: 'registerHost',
  hostAway: 'hostAway',
  requestHosts: 'requestHosts',
  releaseHosts: 'releaseHosts',
  /** Update. */
  setQuota: 'setQuota',
  /** Query. */
  state: 'pool',
  /** Signal by which it answers a request. */
  answer: 'poolAnswer',
} as const;
