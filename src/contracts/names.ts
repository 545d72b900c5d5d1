// The words that processes call each other by: stages, task queues, workflow and activity names, search attributes.
// Nothing here imports anything, so that workflows may use the values.

/** The six stages, in order. The same words name activities, CLI columns, metrics, object keys and README headings. */
export const STAGES = ['ingest', 'preprocess', 'train', 'evaluate', 'register', 'deploy'] as const;
export type Stage = (typeof STAGES)[number];

/** Who polls what: `control` runs workflows and light activities, `data` reads and tokenises, `gpu` trains and evaluates. */
export const TASK_QUEUES = { control: 'anneal-control', data: 'anneal-data', gpu: 'anneal-gpu' } as const;

export const WORKFLOWS = { fineTune: 'FineTune', retraining: 'Retraining' } as const;

/** Registered on the server by the stack; all are keywords. */
export const SEARCH_ATTRIBUTES = { stage: 'AnnealStage', model: 'AnnealModel', dataset: 'AnnealDataset' } as const;

/** Query that answers with a `RunStatus`, while the run goes on and after its end. */
export const STATUS_QUERY = 'status';
