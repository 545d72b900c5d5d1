// What the stages hand to each other and what the object store remembers. Every record is JSON and immutable.
import { z } from 'zod';
import { AccountsSchema, MediaRefSchema, SPLITS } from './rows.ts';
import { BestSchema, OUTPUTS, TokeniseResultSchema, TrainResultSchema } from './trainer-protocol.ts';

export const Digest = z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in 64 hex digits');

/** A file kept as content-addressed parts. */
export const StoredFileSchema = z.object({
  /** Relative, with `/`; sorted by it. */
  path: z.string(),
  size: z.int().min(0),
  sha256: Digest,
  /** SHA-256 of each part, in order; a part has at most 32 MiB. */
  parts: z.array(Digest),
});
export type StoredFile = z.infer<typeof StoredFileSchema>;

/** `digest` is the SHA-256 of the canonical JSON of `files`, the identity of the whole. */
export const FileSetSchema = z.object({ digest: Digest, files: z.array(StoredFileSchema) });
export type FileSet = z.infer<typeof FileSetSchema>;

/** What lay at an address that a row names as an image when its source was frozen. */
export const FrozenImageSchema = z.union([
  z.strictObject({ ref: z.string(), image: MediaRefSchema }),
  z.strictObject({ ref: z.string(), code: z.enum(['media_missing', 'media_unreadable']), message: z.string() }),
]);
export type FrozenImage = z.infer<typeof FrozenImageSchema>;

/** A blob with one frozen image a line, for rows that lie in a part of the source. */
export const ImageTableSchema = z.object({ part: z.int().min(0), table: Digest });

/** Bytes that a source gave, as later stages read them. A folder, a pattern or a prefix gives one for each of its files. */
export const FrozenSourceSchema = z.object({
  uri: z.string(),
  format: z.enum(['jsonl', 'json', 'csv']),
  shape: z.string(),
  sizeBytes: z.int(),
  sha256: Digest,
  parts: z.array(Digest),
  etag: z.string().nullable(),
  /** Blobs of the first bytes of each part but the first; absent in snapshots of older versions. */
  heads: z.array(Digest).optional(),
  /** Of an object in a bucket that keeps versions. */
  versionId: z.string().optional(),
  /** Line ends in each part; absent in snapshots of older versions. */
  newlines: z.array(z.int()).optional(),
  /** Index into the spec's sources; absent = its own place. */
  from: z.int().optional(),
  /** Where the source itself says to which split its rows belong. */
  split: z.enum(SPLITS).optional(),
  /** What was done to the bytes, such as `gzip` or `cp1252`; absent = nothing. */
  converted: z.string().optional(),
  /** Of the images that rows name by addresses; absent = they name none. */
  images: z.array(ImageTableSchema).optional(),
});
export type FrozenSource = z.infer<typeof FrozenSourceSchema>;

/** Frozen input of a run. */
export const SnapshotSchema = z.object({
  /** Digest of the sources' contents and how they are to be read. */
  digest: Digest,
  sources: z.array(FrozenSourceSchema),
});
export type Snapshot = z.infer<typeof SnapshotSchema>;

/** What is in a source of a spec: by its bytes, and by its server's word. */
export const SourceContentSchema = z.object({ sha256: Digest, etag: z.string().nullable() });

/** What the ingest of one source gave. */
export const IngestedSchema = z.object({
  entries: z.array(FrozenSourceSchema),
  content: SourceContentSchema,
  /** What people should know of it, such as files that were passed over. */
  notes: z.array(z.string()),
});
export type Ingested = z.infer<typeof IngestedSchema>;

/** The snapshot that a run was handed: it reads no source again. */
export const HandedSnapshotSchema = z.object({
  snapshot: Digest,
  contents: z.array(SourceContentSchema),
  /** Of the evaluation suites; null = there are none; absent in records of older versions. */
  suites: Digest.nullable().optional(),
});

/** Up to where a followed source was taken. */
export const MarkSchema = z.object({
  /** Files by name, with what tells one content from another. */
  files: z.record(z.string(), z.string()),
  /** Of a database: the highest value of the watermark, and the rows near it, by digest. */
  watermark: z.object({ column: z.string(), recent: z.array(z.string()) }).nullable(),
});
export type Mark = z.infer<typeof MarkSchema>;

/** One taking of a followed source by a run. The records of a source are numbered; each begins where the one before it ended. */
export const TakenSchema = z.object({
  number: z.int().min(1),
  run: z.string(),
  source: z.string(),
  mark: MarkSchema,
  ingested: IngestedSchema,
});
export type Taken = z.infer<typeof TakenSchema>;

/** What preprocess made. `files` holds the shards of each split (`shards.ts`) and `quarantine.jsonl`. */
export const DatasetSchema = z.object({
  digest: Digest,
  snapshot: Digest,
  files: FileSetSchema,
  accounts: AccountsSchema,
  tokens: TokeniseResultSchema,
  system: z.string().nullable(),
  /** `card.html`, `card.md` and `card.json`; absent in datasets of older versions, and so is the next. */
  card: FileSetSchema.optional(),
  /** Blob of the rows' profile as JSON. */
  profile: Digest.optional(),
});
export type Dataset = z.infer<typeof DatasetSchema>;

/** The recipe was changed so that the run could go on: from `atStep` on it is continuous; whether it is still bit-exact, `isExact` says. */
export const RecipeChangeSchema = z.object({
  atStep: z.int(),
  microBatch: z.int(),
  accumulation: z.int(),
  /** Ranks on each host; absent = as many as the recipe says, and so are hosts. */
  processes: z.int().optional(),
  hosts: z.int().optional(),
});
export type RecipeChange = z.infer<typeof RecipeChangeSchema>;

/** Where a run's time went, from its first claim to a moment. Steps that were done again count once. */
export const GoodputSchema = z.object({
  startedMs: z.number(),
  atMs: z.number(),
  /** Highest step that is in it. */
  step: z.int(),
  /** Seconds of steps and evaluations that the run needs. */
  productiveSeconds: z.number(),
  /** Seconds in which attempts held the GPU, times ranks, over all attempts; time between them is not in it. */
  gpuSeconds: z.number().default(0),
  /**
   * Seconds by cause: `paused` (wanted, so no loss in the share), `start` (claim, fetch), `load`, `checkpoint`, `redone` (steps done
   * before), `wait` (between steps: batches, warm state), `finish`, `recovery:<kind>` (from a failure to the next new step).
   */
  lostSeconds: z.record(z.string(), z.number()),
});
export type Goodput = z.infer<typeof GoodputSchema>;

/** What the steps and the validations of a run gave up to a moment (`learning-curve.ts`), each thinned evenly to at most 200. */
export const LearningCurveSchema = z.object({
  steps: z.array(z.object({ step: z.int(), loss: z.number(), gradNorm: z.number(), learningRate: z.number() })),
  validations: z.array(z.object({ step: z.int(), loss: z.number(), accuracy: z.number().optional() })),
});

/** The numbered object by which an attempt takes over a run's training. Its creation is the lock. */
export const ClaimSchema = z.object({
  run: z.string(),
  number: z.int().min(1),
  /** Where this attempt resumes; null = from the start. */
  resumeFrom: z.object({ claim: z.int(), step: z.int() }).nullable(),
  /** Every change of the recipe up to here, in order. */
  changes: z.array(RecipeChangeSchema),
  /** How ranks share the training: what the first claim chose holds for all. Absent = each has everything. */
  strategy: z.enum(['ddp', 'fsdp', 'deepspeed']).optional(),
  /** When the run's first claim was taken, ms since the epoch. */
  runStartedMs: z.number(),
  workflowRunId: z.string(),
  /** The server's time at which the attempt was scheduled, ms since the epoch: orders attempts. */
  attemptScheduledMs: z.number(),
  host: z.string(),
  /** Of a gang of several hosts; the first host claims for all, and the others resume from what is said here. */
  gang: z
    .object({
      /** The server's time at which the gang's attempt began, ms since the epoch: orders attempts before `attemptScheduledMs`. */
      epoch: z.number(),
      /** Names, by place. */
      hosts: z.array(z.string()),
      /** Where the state that it resumes from lies: in every host's memory, or in the store. */
      source: z.enum(['warm', 'store']).nullable(),
    })
    .nullable()
    .default(null),
  writeId: z.string(),
});
export type Claim = z.infer<typeof ClaimSchema>;

/** An attempt that could say goodbye: told to stop, it saved and ended. A claim without one ended without an answer. */
export const ClaimEndSchema = z.object({
  why: z.string(),
  step: z.int(),
  atMs: z.number(),
  /** It was wanted, by people or a limit: the time until the next attempt is nobody's loss. */
  paused: z.boolean().default(false),
});

/** A training that waits at a share of its steps: what is known of it there. */
export const RungSchema = z.object({
  step: z.int(),
  /** null without a validation set. */
  evalLoss: z.number().nullable(),
  gpuSeconds: z.number(),
});
export type Rung = z.infer<typeof RungSchema>;

/** Committed training state; exists exactly when this manifest does. */
export const CheckpointSchema = z.object({
  run: z.string(),
  claim: z.int(),
  step: z.int(),
  terminal: z.boolean(),
  best: BestSchema.nullable(),
  /** Digest of the training inputs (data, base, recipe, libraries): a checkpoint of other inputs is never resumed. */
  lineage: Digest,
  goodput: GoodputSchema,
  /** Absent in those of earlier releases. */
  curve: LearningCurveSchema.optional(),
  /** Its parts lie under the run and the claim, not among the shared blobs, so that they can be deleted with it. */
  files: FileSetSchema,
});
export type Checkpoint = z.infer<typeof CheckpointSchema>;

/** What a host of a gang answers when it is asked for its files of a checkpoint. */
export const ShareSchema = z.discriminatedUnion('is', [
  z.object({ is: z.literal('stored'), files: FileSetSchema }),
  /** Its trainer has rotated the folder away: a newer one follows. */
  z.object({ is: z.literal('gone') }),
  z.object({ is: z.literal('corrupt'), message: z.string() }),
]);
export type Share = z.infer<typeof ShareSchema>;

/** What was done about a failure of a trainer, a worker or a host. */
export const RECOVERY_ACTIONS = [
  'restarted', // from the newest state
  'replayed', // from the newest checkpoint, without warm state
  'older_checkpoint', // the newest state is suspect
  'state_dropped', // the newest state cannot be read: the next older one
  'disk_freed', // checkpoints that the store has were deleted first
  'smaller_batch', // half the micro-batch, twice the accumulation
  'taken_over', // another attempt ended without an answer
  'stopped', // repeating is pointless
] as const;

/** One recovery: what was detected, what it cost, what was done. */
export const ReceiptSchema = z.object({
  claim: z.int(),
  /** Counts the receipts of the claim. */
  number: z.int(),
  kind: z.string(),
  message: z.string(),
  atStep: z.int(),
  resumedFrom: z.int(),
  lostSteps: z.int(),
  /** From the last sign of life to the detection. */
  detectedMs: z.number(),
  /** From the detection to the first step that had not been done before; null when there was none. */
  nextNewStepMs: z.number().nullable(),
  /** Seconds in which the GPUs of all ranks did nothing new. */
  gpuSeconds: z.number(),
  action: z.enum(RECOVERY_ACTIONS),
  /** Whether the run still ends at the bytes of an undisturbed one. */
  exact: z.boolean(),
  atMs: z.number(),
});
export type Receipt = z.infer<typeof ReceiptSchema>;

/** What was noticed and did not end the run. */
export const FindingSchema = z.object({
  code: z.enum([
    'not_deterministic',
    'warm_state_off',
    'cold_start',
    'garbage_on_channel',
    'ignored_sigterm',
    'checkpoint_corrupt',
    'store_unavailable',
  ]),
  step: z.int(),
  message: z.string(),
});
export type Finding = z.infer<typeof FindingSchema>;

export const TrainingSchema = z.object({
  claim: z.int(),
  adapter: FileSetSchema,
  /** What the recipe's `outputs` name. */
  outputs: z.partialRecord(z.enum(OUTPUTS), FileSetSchema).default({}),
  lineage: Digest,
  baseDigest: Digest,
  result: TrainResultSchema,
  /** Of every claim of the run, in order. */
  receipts: z.array(ReceiptSchema),
  /** The first hundred. */
  findings: z.array(FindingSchema),
  changes: z.array(RecipeChangeSchema),
  goodput: GoodputSchema,
  /** Absent in records of earlier releases. */
  curve: LearningCurveSchema.optional(),
  seconds: z.number(),
});
export type Training = z.infer<typeof TrainingSchema>;

/** k of n with a Wilson score interval (Wilson 1927) at the gate's confidence. */
export const ProportionSchema = z.object({ correct: z.int(), n: z.int(), low: z.number(), high: z.number() });

export const VariantScoreSchema = z.object({
  name: z.string(),
  shots: z.int(),
  /** null where the task has no match. */
  match: ProportionSchema.nullable(),
  /** With `dpo`: pairs of which the model itself finds the chosen answer likelier, as a whole, than the rejected one. */
  likelier: ProportionSchema.nullable().default(null),
  /** Token-weighted mean negative log-likelihood of the references, and its exponential. Of a reward model −ln σ(margin), a mean over pairs. */
  loss: z.number(),
  perplexity: z.number(),
});
export type VariantScore = z.infer<typeof VariantScoreSchema>;

/**
 * How the tuned model tells good answers from bad ones. The reward of an answer is what a reward model gives it; with `dpo` and `kto`
 * how much likelier, in nats, the tuned model finds it than the untuned one, or than the version that it continues.
 */
const RewardsSchema = z.object({
  /** Pairs whose chosen answer has the higher reward; with `kto` wanted answers above 0 and unwanted ones below. A tie is not right. */
  right: ProportionSchema,
  /** With `kto`: the same of the wanted and of the unwanted answers by themselves. */
  wanted: ProportionSchema.nullable(),
  unwanted: ProportionSchema.nullable(),
  /** Mean reward of the chosen (wanted) answers minus that of the rejected (unwanted) ones; null where one kind is absent. */
  margin: z.number().nullable(),
});
export type Rewards = z.infer<typeof RewardsSchema>;

const GateSchema = z.object({
  metric: z.enum(['match', 'loss', 'preference']),
  /** What the candidate is compared with. */
  against: z.string(),
  /** Candidate minus the other, for `match` and `preference` in shares, for `loss` in nats saved; above 0 is better. */
  difference: z.number(),
  low: z.number(),
  high: z.number(),
  confidence: z.number(),
  /** `low` must lie above it. */
  minGain: z.number().default(0),
  /** Exact McNemar test (two-sided) for `match`, sign test for `preference`. */
  pValue: z.number().nullable(),
  verdict: z.enum(['pass', 'fail', 'inconclusive']),
  reason: z.string(),
});

export const EvaluationSchema = z.object({
  rows: z.int(),
  /** Digest of the scored rows. */
  rowsDigest: Digest,
  matchKind: z.enum(['exact', 'json', 'none']),
  base: VariantScoreSchema,
  /** The untuned model with examples in its prompt; null when `control.shots` is 0 or the task has no match. */
  control: VariantScoreSchema.nullable(),
  candidate: VariantScoreSchema,
  /** null with `sft`. */
  rewards: RewardsSchema.nullable().default(null),
  gate: GateSchema,
  /** The version that the run continues, and how the candidate compares with it; null = it continues none, or is a reward model. */
  parent: VariantScoreSchema.extend({ comparison: GateSchema }).nullable().default(null),
  /** Held-out examples: before and after. */
  examples: z.array(
    z.object({
      prompt: z.string(),
      reference: z.string(),
      before: z.string().nullable(),
      after: z.string().nullable(),
      correct: z.boolean().nullable(),
    }),
  ),
  /** All predictions, one JSON object a line. */
  predictions: FileSetSchema,
});
export type Evaluation = z.infer<typeof EvaluationSchema>;

/** The version that a training continues. */
export const ParentSchema = z.object({ model: z.string(), version: z.int().min(1), digest: Digest });
export type Parent = z.infer<typeof ParentSchema>;

/** An immutable registry record. */
export const VersionSchema = z.object({
  model: z.string(),
  version: z.int().min(1),
  run: z.string(),
  createdAt: z.iso.datetime(),
  /** Root digest of the files: the identity of the version. */
  digest: Digest,
  files: FileSetSchema,
  base: z.object({ name: z.string(), digest: Digest }),
  /** What its training began with; null = the base model. */
  parent: ParentSchema.nullable().default(null),
  /** `none`: every weight was trained, and the files are a whole model. */
  peft: z.enum(['lora', 'none']),
  data: z.object({
    snapshot: Digest,
    dataset: Digest,
    accounts: AccountsSchema,
    system: z.string().nullable(),
    templateSha256: Digest,
  }),
  recipe: z.record(z.string(), z.unknown()),
  recipeDigest: Digest,
  training: TrainResultSchema.omit({ adapter: true, outputs: true }).extend({
    seconds: z.number(),
    recoveries: z.int(),
    claim: z.int(),
  }),
  evaluation: EvaluationSchema.omit({ predictions: true, examples: true }).extend({ predictionsDigest: Digest }),
  code: z.object({ version: z.string(), gitCommit: z.string().nullable(), digest: Digest }),
  writeId: z.string(),
});
export type Version = z.infer<typeof VersionSchema>;

/** A line of a model's history: who moved which alias, when, why, from what to what. Chained by digest. */
export const ModelEventSchema = z.object({
  model: z.string(),
  number: z.int().min(1),
  kind: z.literal('alias_moved'),
  alias: z.string(),
  from: z.int().nullable(),
  to: z.int(),
  by: z.string(),
  why: z.string(),
  at: z.iso.datetime(),
  /** SHA-256 of the event before it, null for the first. */
  previous: Digest.nullable(),
  writeId: z.string(),
});
export type ModelEvent = z.infer<typeof ModelEventSchema>;

/** Which version an endpoint serves; the newest number counts. The gateway serves the last one that it has seen. */
export const RouteSchema = z.object({
  endpoint: z.string(),
  number: z.int().min(1),
  model: z.string(),
  version: z.int(),
  digest: Digest,
  base: z.string(),
  files: FileSetSchema,
  /** System message put before chats that bring none, as in training. */
  system: z.string().nullable(),
  at: z.iso.datetime(),
  writeId: z.string(),
});
export type Route = z.infer<typeof RouteSchema>;
