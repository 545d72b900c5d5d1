// The seam between TypeScript and Python: a job in, NDJSON events out, an exit code. Mirrored by `anneal_trainer/protocol.py`;
// the golden files in `test/golden/` are read by both test suites.
//
// The child is started as `python -m anneal_trainer <job.json>`. Events go to file descriptor 3, one JSON object a line;
// stdout and stderr stay free for libraries and are logged. Standard input is the dead man's channel: at its end the child
// kills itself. SIGTERM asks for a checkpoint at the next step edge and exit code 41.
//
// `python -m anneal_trainer warm-parent` imports everything once and forks such children on command; a forked child that runs
// `prepare-train` is a parent itself, with model and trainer built, and forks one trainer per attempt. Commands come to both
// on standard input. A forked child connects to the Unix socket `channel`, which takes the place of descriptors 0 and 3.
import { z } from 'zod';
import { TooLongSchema } from './data-spec.ts';
import { RowSchema } from './rows.ts';
import { SCHEDULES } from './schedules.ts';
import { DeepSpeedSchema, PRECISIONS } from './strategies.ts';

export const PROTOCOL_VERSION = 1;

/** Exit codes of the child; any other code, and any signal, is a crash. */
export const EXIT_CODES = {
  done: 0,
  loss_not_finite: 40,
  interrupted: 41,
  bad_request: 42,
  out_of_memory: 43,
  checkpoint_corrupt: 44,
  orphaned: 45,
  data_rejected: 46,
  disk_full: 47,
} as const;

const Path = z.string().min(1);

/** What a run may keep besides what it is for; names of the folders, too. */
export const OUTPUTS = ['best', 'final', 'merged-best', 'merged-final'] as const;
const OutputSchema = z.enum(OUTPUTS);

const MetricSchema = z.enum(['evalLoss', 'evalAccuracy']);

/** The best validation so far. */
export const BestSchema = z.object({ step: z.int(), evalLoss: z.number(), evalAccuracy: z.number().optional() });

const Interval = z.union([z.int(), z.literal('epoch')]);

/** The recipe with nothing left to decide; what the trainer reads. */
export const ResolvedRecipeSchema = z.object({
  method: z.enum(['sft', 'dpo', 'kto', 'reward']),
  tuning: z.enum(['lora', 'qlora', 'full']),
  lora: z.object({
    rank: z.int(),
    alpha: z.number(),
    dropout: z.number(),
    targets: z.union([z.enum(['auto', 'all-linear']), z.array(z.string())]),
    firstLayer: z.int(),
    rslora: z.boolean(),
    dora: z.boolean(),
    /** Absent in jobs of runs that began before there was one. */
    experts: z.boolean().optional(),
  }),
  qlora: z.object({ bits: z.union([z.literal(4), z.literal(8)]) }),
  epochs: z.number(),
  maxSteps: z.int().nullable(),
  microBatch: z.int(),
  /** Rows that the order keeps together: the micro-batch before memory made it smaller, so that each step still sees the same rows. */
  orderBatch: z.int().optional(),
  accumulation: z.int(),
  learningRate: z.number(),
  schedule: z.enum(SCHEDULES),
  /** Absent in jobs of runs that began before there was one, as the next two are. */
  minLearningRate: z.number().optional(),
  schedulePower: z.number().optional(),
  decayRatio: z.number().optional(),
  warmupRatio: z.number(),
  warmupSteps: z.int().nullable(),
  weightDecay: z.number(),
  maxGradNorm: z.number(),
  seed: z.int(),
  saveSteps: Interval.nullable(),
  evalSteps: Interval.nullable(),
  keep: z.int(),
  earlyStopping: z.object({ patience: z.int(), threshold: z.number(), metric: MetricSchema }).nullable(),
  outputs: z.array(OutputSchema),
  threads: z.int(),
  packing: z.boolean(),
  streaming: z.boolean(),
  dataloaderWorkers: z.int(),
  tokenDropout: z.number(),
  processes: z.int(),
  /** Each has `processes` ranks; absent = 1. */
  hosts: z.int().optional(),
  dpoBeta: z.number(),
  kto: z.object({ beta: z.number(), desirableWeight: z.number(), undesirableWeight: z.number() }),
  device: z.enum(['auto', 'cpu']),
  gradientCheckpointing: z.boolean(),
  optimizer: z.enum(['adamw', 'adamw8bit']),
  /** `ddp` is also what one process does. */
  strategy: z.enum(['ddp', 'fsdp', 'deepspeed']),
  deepspeed: DeepSpeedSchema,
  offload: z.enum(['none', 'cpu']),
  precision: z.enum(PRECISIONS),
});

/** Where an attempt goes on from; null = a fresh start. */
export const ResumeSchema = z
  .discriminatedUnion('from', [
    /** A `checkpoint-<step>` folder with its `manifest.json`. */
    z.object({ from: z.literal('checkpoint'), path: Path }),
    /** A folder of warm state; needs the job's `warm`. */
    z.object({
      from: z.literal('warm'),
      folder: Path,
      /** One that every host has; absent = the newest that every rank of this host has. */
      step: z.int().optional(),
    }),
  ])
  .nullable();
export type Resume = z.infer<typeof ResumeSchema>;

/** Where this attempt keeps its warm state, and what a header must say to be resumed from. */
export const WarmSchema = z.object({
  /** In shared memory, one per run and claim; holds `rank-<r>.slot-0` and `.slot-1`. */
  folder: Path,
  run: z.string().min(1),
  claim: z.int(),
  lineage: z.string().min(1),
  /** What the slots of all ranks may take together. */
  bytesMax: z.int(),
  /** null = as often as the copy costs at most 1 % of the step time. */
  everySteps: z.int().nullable(),
});

/** Where the ranks of several hosts meet. Rank 0 listens there, and at no other address of its host. */
export const GangSchema = z.object({
  /** Which of the hosts this is, from 0 on; it has the ranks from `host` × `processes` on. */
  host: z.int(),
  address: z.string(),
  port: z.int(),
  /** The network interface of this host that reaches the others. */
  interface: z.string(),
  /** Ranks with another key do not meet these. */
  key: z.string(),
});

export const TrainJobSchema = z.object({
  v: z.literal(PROTOCOL_VERSION),
  command: z.literal('train'),
  /** Folder of the base model, Hugging Face layout. */
  baseModel: Path,
  /** Name of the base model that goes into `adapter_config.json` in place of the folder, so that bytes do not depend on the machine. */
  baseName: z.string(),
  /**
   * Tokenised shards: safetensors, rows laid end to end. For `sft`: `input_ids` (int32), `trainable` (uint8, 1 = has a label),
   * `offsets` (int64, rows + 1). For `dpo` and `reward`: `prompt`, `chosen` and `rejected` (int32), each with `<name>_offsets`
   * (int64, rows + 1); both answers go on from the prompt. For `kto`: `prompt` and `completion` in the same way, and `label` (uint8,
   * rows; 1 = a good answer). The path is the split's name: where there is no such file, its shards beside it are one sequence, in order
   * (`train-00000-of-00012.safetensors`). Tokenised for a model that reads images, `sft` rows also have `media` (uint8, 32 bytes for
   * each image: its SHA-256) with `media_offsets`; the images lie in the folder `media` beside the shards, named by it.
   */
  train: Path,
  validation: Path.nullable(),
  /**
   * Folder for `checkpoint-<step>/` and, at the end, `adapter/` (`model/` with `tuning: full`), the recipe's `outputs`, and, with a
   * validation set, `best_model_info.json`.
   */
  output: Path,
  resume: ResumeSchema,
  /** null = no warm state. */
  warm: WarmSchema.nullable(),
  /** Leaves a known hole of exactness open; only the negative controls of drills set it. */
  hole: z.enum(['unkeyed-collator', 'no-callback-state', 'no-terminal-flag']).nullable(),
  recipe: ResolvedRecipeSchema,
  /** Share of the steps after which the run saves, looks at its validation loss and ends for now (`paused`); null or absent = none. */
  pauseAt: z.number().gt(0).lt(1).nullable().optional(),
  /** null or absent = this host is the only one. */
  gang: GangSchema.nullable().optional(),
  /**
   * Folder of the version that the training continues from: its adapter, or with `tuning: full` its whole model. null or absent = the
   * base model.
   */
  parent: Path.nullable().optional(),
});
export type TrainJob = z.infer<typeof TrainJobSchema>;

/** Makes a job parent: loads the model, reads the data, builds the trainer, then forks a trainer per `attempt`. `resume` is ignored. */
export const PrepareTrainJobSchema = z.object({
  v: z.literal(PROTOCOL_VERSION),
  command: z.literal('prepare-train'),
  train: TrainJobSchema,
});
export type PrepareTrainJob = z.infer<typeof PrepareTrainJobSchema>;

/** Measures the memory that a training needs, by a few steps with a few copies of its longest row, in a process each. */
export const ProbeJobSchema = z.object({
  v: z.literal(PROTOCOL_VERSION),
  command: z.literal('probe'),
  /** `output` is a folder that does not outlive the probe; `resume` and `warm` are ignored, and so are all ranks but one. */
  train: TrainJobSchema,
});
export type ProbeJob = z.infer<typeof ProbeJobSchema>;

/** Ascending by rows. The last point's bytes are null when it did not fit. */
export const ProbeResultSchema = z.object({
  points: z
    .array(
      z.object({
        /** That went through the model at once. */
        rows: z.int(),
        /** Peak of the process, of its GPU where it trains there; and with a checkpoint written, which does not grow with the rows. */
        bytes: z.number().nullable(),
        saveBytes: z.number().nullable(),
        /** Of one step, and how long it took. */
        tokens: z.int(),
        seconds: z.number(),
      }),
    )
    .min(1),
});
export type ProbeResult = z.infer<typeof ProbeResultSchema>;

/** A row that cannot be trained on. */
export const TokeniserRejectSchema = z.object({
  split: z.string(),
  /** Counts the split's rows from 0. */
  index: z.int(),
  code: z.string(),
  message: z.string(),
  /** Of a row that is too long. */
  tokens: z.int().optional(),
  src: z.object({ source: z.int(), line: z.int() }).nullable(),
  /** The row's content as JSON, at most 2,300 characters; personal data is still in it. */
  preview: z.string(),
});

export const TokeniseJobSchema = z.object({
  v: z.literal(PROTOCOL_VERSION),
  command: z.literal('tokenise'),
  tokenizer: Path,
  maxLength: z.int(),
  /** What the rows are: `chat`, `pair` (`dpo` and `reward`) or `judged` (`kto`); it decides the tensors of the shard. */
  kind: z.enum(['chat', 'pair', 'judged']).default('chat'),
  /** What becomes of rows that are too long; absent = `auto`. */
  tooLong: TooLongSchema.optional(),
  /** How many at once; null or absent = one a core. The bytes do not depend on it. */
  processes: z.int().min(1).nullable().optional(),
  /**
   * Each split's rows (`rows.ts`, JSONL), where its shard goes, and where the rows go that are in the shard, one to one: those that
   * stay byte for byte, of cut ones the pieces, as `<id>#1`, `<id>#2`, … The images of the rows lie in the folder `media` beside them,
   * named by their SHA-256.
   */
  splits: z.array(z.object({ name: z.string(), rows: Path, out: Path, kept: Path.nullable().optional() })),
  /** JSONL of `TokeniserRejectSchema` goes here. */
  rejected: Path,
});
export type TokeniseJob = z.infer<typeof TokeniseJobSchema>;

export const EvaluateJobSchema = z.object({
  v: z.literal(PROTOCOL_VERSION),
  command: z.literal('evaluate'),
  baseModel: Path,
  /** How the variants were trained: with `sft` the rows are chats, with `dpo` and `reward` pairs, with `kto` judged answers. */
  method: z.enum(['sft', 'dpo', 'kto', 'reward']).default('sft'),
  /** Rows of `rows.ts`, JSONL; of a chat the last message is the reference, those before it the prompt. Images lie in `media` beside it. */
  rows: Path,
  variants: z.array(
    z.object({
      name: z.string(),
      /** Folder with `adapter_model.safetensors` and `adapter_config.json`, or null for the base model. */
      adapter: Path.nullable(),
      /** Earlier turns put between the system message and the prompt. */
      shots: z.array(RowSchema),
      /** Generate an answer (greedy) as well as scoring the reference. */
      generate: z.boolean(),
    }),
  ),
  /** Rows for which an answer is generated where a variant generates: the first so many; null = all. */
  answers: z.int().nullable().default(null),
  /** null = the longest reference of the rows plus two tokens, at most 512. */
  maxNewTokens: z.int().nullable(),
  threads: z.int(),
  /** JSONL of `Prediction` goes here. */
  predictions: Path,
});
export type EvaluateJob = z.infer<typeof EvaluateJobSchema>;

/** One variant's answer to one row. The reference is a chat's last message, a pair's chosen answer, a judged row's completion. */
export const PredictionSchema = z.object({
  variant: z.string(),
  id: z.string(),
  /** Generated text without special tokens, or null where none was asked for. */
  output: z.string().nullable(),
  /** Mean negative log-likelihood of the reference's tokens (natural log), end-of-turn included; of a reward model −ln σ(chosen − rejected). */
  loss: z.number(),
  /** Tokens of the reference, end-of-turn included; of a reward model 1. */
  tokens: z.int(),
  /** The same of a pair's rejected answer. */
  rejected: z.object({ loss: z.number(), tokens: z.int() }).optional(),
  /** What a reward model gives to the answers of a pair. */
  rewards: z.object({ chosen: z.number(), rejected: z.number() }).optional(),
});
export type Prediction = z.infer<typeof PredictionSchema>;

/** Makes a model folder from what a package ships; used once by the set-up. */
export const PrepareModelJobSchema = z.object({
  v: z.literal(PROTOCOL_VERSION),
  command: z.literal('prepare-model'),
  /** A GGUF file to dequantise (its `kind` is `gguf`), or nothing: a random two-layer Llama with the given tokenizer's folder. */
  source: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('gguf'), file: Path }),
    z.object({ kind: z.literal('tiny'), tokenizer: Path, seed: z.int() }),
  ]),
  output: Path,
});

/** Makes shards for a drill: random tokens of the model's vocabulary, the same for the same seed. */
export const DrillDataJobSchema = z.object({
  v: z.literal(PROTOCOL_VERSION),
  command: z.literal('drill-data'),
  kind: z.enum(['sft', 'preference', 'judged']),
  baseModel: Path,
  /** Rows of `train.safetensors`; `validation.safetensors` has a fifth of them. */
  rows: z.int(),
  seed: z.int(),
  /** Folder of the two shards. */
  output: Path,
});
export type DrillDataJob = z.infer<typeof DrillDataJobSchema>;

/** Holds the base model and its adapters and answers chats: commands come on standard input, one JSON object a line. */
export const ServeJobSchema = z.object({
  v: z.literal(PROTOCOL_VERSION),
  command: z.literal('serve'),
  baseModel: Path,
  threads: z.int(),
  /** Sequences that decode at once; more wait in the engine's queue. */
  maxBatch: z.int(),
  /** Prompt and answer together, in tokens. */
  maxLength: z.int(),
});
export type ServeJob = z.infer<typeof ServeJobSchema>;

export const JobSchema = z.discriminatedUnion('command', [
  TrainJobSchema,
  PrepareTrainJobSchema,
  ProbeJobSchema,
  TokeniseJobSchema,
  EvaluateJobSchema,
  PrepareModelJobSchema,
  DrillDataJobSchema,
  ServeJobSchema,
]);
export type Job = z.infer<typeof JobSchema>;

/** Which step was the best, by what; the digest of its weights is null where they were not kept. */
const BestModelSchema = z.object({
  step: z.int(),
  metric: MetricSchema,
  value: z.number(),
  weightsSha256: z.string().nullable(),
});

export const TrainResultSchema = z.object({
  step: z.int(),
  steps: z.int(),
  epochs: z.number(),
  /** Mean of the loss over all steps of the run, across restarts. */
  trainLoss: z.number(),
  evalLoss: z.number().nullable(),
  /** With the methods that tell answers apart: the share that was told right. */
  evalAccuracy: z.number().optional(),
  best: BestSchema.nullable(),
  /** Tokens seen, across restarts. */
  tokens: z.int(),
  trainableParameters: z.int(),
  totalParameters: z.int(),
  /** Folder of the adapter: `adapter_model.safetensors`, `adapter_config.json`; with `tuning: full` of the model: `model.safetensors`, `config.json`. */
  adapter: Path,
  /** SHA-256 of `adapter_model.safetensors` or `model.safetensors`. */
  weightsSha256: z.string(),
  /** What the recipe's `outputs` name, with the SHA-256 of its weights. */
  outputs: z.array(z.object({ name: OutputSchema, path: Path, weightsSha256: z.string() })).default([]),
  /** What `best_model_info.json` says; null without a validation set. */
  bestModel: BestModelSchema.nullable().default(null),
  stoppedEarly: z.boolean(),
  /** Exact versions of the libraries that decide the bits. */
  libraries: z.record(z.string(), z.string()),
});
export type TrainResult = z.infer<typeof TrainResultSchema>;

/** Rows that were too long and are in the dataset all the same. */
export const CutSchema = z.object({
  truncated: z.int().default(0),
  /** What truncation cut off. */
  lostTokens: z.int().default(0),
  split: z.object({ rows: z.int().default(0), into: z.int().default(0) }).prefault({}),
  /** Turns of split chats that were to be trained on and do not fit even alone. */
  lostTurns: z.int().default(0),
});

export const TokeniseResultSchema = z.object({
  splits: z.record(
    z.string(),
    z.object({
      rows: z.int(),
      tokens: z.int(),
      trainableTokens: z.int(),
      longest: z.int(),
      /** Rows by length: entry b counts those of 2^(b/4) up to but not including 2^((b+1)/4) tokens. */
      histogram: z.array(z.int()).optional(),
    }),
  ),
  rejected: z.int(),
  cut: CutSchema.prefault({}),
  /** Rows that the chat template refuses, and what it says of the first; null = none. */
  unrendered: z.object({ rows: z.int(), first: z.string() }).nullable().default(null),
  templateSha256: z.string(),
  tokenizerSha256: z.string(),
  /** The first row decoded: pieces of text, each with or without a label, together at most 2,000 characters. */
  sample: z.array(z.object({ text: z.string(), trainable: z.boolean() })),
});
export type TokeniseResult = z.infer<typeof TokeniseResultSchema>;

/** What a trainer reports without ending. */
export const FINDINGS = [
  /** There is no warm state, or no longer: no room in shared memory, or its limit is too low. */
  'warm_state_off',
] as const;

export const EventSchema = z.discriminatedUnion('ev', [
  z.object({
    ev: z.literal('phase'),
    phase: z.enum(['load', 'tokenise', 'train', 'evaluate', 'save']),
    detail: z.string().optional(),
  }),
  /** Units of work done, for commands without steps. */
  z.object({ ev: z.literal('progress'), done: z.int(), of: z.int(), detail: z.string().optional() }),
  z.object({
    ev: z.literal('plan'),
    steps: z.int(),
    rows: z.int(),
    trainableParameters: z.int(),
    totalParameters: z.int(),
    /** The step that training goes on from; 0 = fresh. */
    from: z.int(),
    source: z.enum(['fresh', 'checkpoint', 'warm']),
  }),
  z.object({
    ev: z.literal('step'),
    step: z.int(),
    of: z.int(),
    epoch: z.number(),
    loss: z.number(),
    gradNorm: z.number(),
    learningRate: z.number(),
    /** Tokens seen since the run's start, across restarts. */
    tokens: z.int(),
    /** Seconds of this step. */
    seconds: z.number(),
    /** How far the rewards of the better answers lie above the others', and (not with `kto`) the share of pairs in which they do. */
    rewardMargin: z.number().optional(),
    rewardAccuracy: z.number().optional(),
  }),
  z.object({ ev: z.literal('metrics'), step: z.int(), evalLoss: z.number(), evalAccuracy: z.number().optional() }),
  z.object({
    ev: z.literal('checkpoint_saved'),
    step: z.int(),
    path: Path,
    bytes: z.int(),
    /** The run's last: resuming from it trains no further step. */
    terminal: z.boolean(),
    best: BestSchema.nullable(),
    seconds: z.number(),
  }),
  /** How often the warm state is kept, when that is chosen and whenever it changes. */
  z.object({
    ev: z.literal('warm_state'),
    step: z.int(),
    everySteps: z.int(),
    /** Median of the last copies. */
    copyMs: z.number(),
  }),
  z.object({ ev: z.literal('finding'), code: z.enum(FINDINGS), message: z.string() }),
  /** The step that `pauseAt` names is reached and saved; null without a validation set. */
  z.object({ ev: z.literal('paused'), step: z.int(), evalLoss: z.number().nullable() }),
  z.object({ ev: z.literal('interrupted'), step: z.int() }),
  z.object({ ev: z.literal('failed'), kind: z.string(), message: z.string() }),
  z.object({ ev: z.literal('done'), result: z.unknown() }),
  // The parents'.
  z.object({ ev: z.literal('warm'), seconds: z.number() }),
  z.object({ ev: z.literal('prepared'), seconds: z.number() }),
  z.object({ ev: z.literal('forked'), id: z.string(), pid: z.int() }),
  /** Exactly one of `code` and `signal` is null. */
  z.object({
    ev: z.literal('exited'),
    id: z.string(),
    pid: z.int(),
    code: z.int().nullable(),
    signal: z.string().nullable(),
  }),
  // The engine's.
  z.object({ ev: z.literal('ready'), maxLength: z.int() }),
  z.object({ ev: z.literal('loaded'), id: z.string() }),
  z.object({ ev: z.literal('unloaded'), id: z.string() }),
  z.object({ ev: z.literal('token'), id: z.string(), text: z.string() }),
  z.object({
    ev: z.literal('finished'),
    id: z.string(),
    reason: z.enum(['stop', 'length', 'cancelled']),
    promptTokens: z.int(),
    completionTokens: z.int(),
  }),
  z.object({
    ev: z.literal('rejected'),
    id: z.string(),
    code: z.enum(['unknown_adapter', 'too_long', 'bad_request']),
    message: z.string(),
  }),
]);
export type TrainerEvent = z.infer<typeof EventSchema>;
export type TrainerEventOf<K extends TrainerEvent['ev']> = Extract<TrainerEvent, { ev: K }>;

/** Where a forked child finds its supervisor. */
const Fork = {
  id: z.string().min(1),
  /** Unix socket that listens, at most 107 bytes long (the kernel's limit). */
  channel: Path,
  /** stdout and stderr are appended to it; its folder is the child's working folder. */
  log: Path,
};
/** Ends a parent and its children. */
const End = z.object({ op: z.literal('end') });

/** What the warm parent reads on its standard input. */
export const WarmParentCommandSchema = z.discriminatedUnion('op', [
  /** Forks a child that runs a job file as a cold start would. */
  z.object({ op: z.literal('run'), ...Fork, job: Path }),
  End,
]);
export type WarmParentCommand = z.infer<typeof WarmParentCommandSchema>;

/** What a job parent reads. */
export const JobParentCommandSchema = z.discriminatedUnion('op', [
  z.object({ op: z.literal('attempt'), ...Fork, resume: ResumeSchema }),
  End,
]);
export type JobParentCommand = z.infer<typeof JobParentCommandSchema>;

/**
 * The first 4096 bytes of a slot: a commit word (8 bytes, little-endian: 0 while the slot changes, else `step` + 1), then
 * this as JSON, then NULs. The newest step that all ranks hold is what can be resumed from.
 */
export const WarmStateHeaderSchema = z.object({
  v: z.literal(1),
  run: z.string(),
  claim: z.int(),
  lineage: z.string(),
  rank: z.int(),
  processes: z.int(),
  step: z.int(),
  terminal: z.boolean(),
  bytes: z.int(),
  /** The list of tensors and all that is no tensor. */
  blob: z.object({ offset: z.int(), length: z.int(), sha256: z.string() }),
  /** First 16 hex digits of the SHA-256 of the other fields. */
  check: z.string(),
});
export type WarmStateHeader = z.infer<typeof WarmStateHeaderSchema>;

/** What the gateway writes to the engine's standard input. */
export const EngineCommandSchema = z.discriminatedUnion('op', [
  z.object({ op: z.literal('load'), id: z.string(), adapter: z.string(), path: Path }),
  z.object({ op: z.literal('unload'), id: z.string(), adapter: z.string() }),
  z.object({
    op: z.literal('generate'),
    id: z.string(),
    /** null = the base model. */
    adapter: z.string().nullable(),
    messages: z.array(z.object({ role: z.string(), content: z.string() })),
    maxTokens: z.int(),
    /** 0 = greedy. */
    temperature: z.number(),
    topP: z.number(),
    seed: z.int().nullable(),
    stop: z.array(z.string()),
  }),
  z.object({ op: z.literal('cancel'), id: z.string() }),
]);
export type EngineCommand = z.infer<typeof EngineCommandSchema>;

/** `manifest.json` of a `checkpoint-<step>` folder: the checkpoint is whole exactly when every file has its size and digest. */
export const LocalCheckpointSchema = z.object({
  v: z.literal(1),
  step: z.int(),
  terminal: z.boolean(),
  best: BestSchema.nullable(),
  files: z.record(z.string(), z.object({ size: z.int(), sha256: z.string() })),
});
export type LocalCheckpoint = z.infer<typeof LocalCheckpointSchema>;
