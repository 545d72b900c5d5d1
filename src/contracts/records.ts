// What the stages hand to each other and what the object store remembers. Every record is JSON and immutable.
import { z } from 'zod';
import { AccountsSchema } from './rows.ts';
import { TokeniseResultSchema, TrainResultSchema } from './trainer-protocol.ts';

export const Digest = z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in 64 hex digits');

/** Files kept as content-addressed parts; `digest` is the SHA-256 of the canonical JSON of `files`, the identity of the whole. */
export const FileSetSchema = z.object({
  digest: Digest,
  files: z.array(
    z.object({
      /** Relative, with `/`; sorted by it. */
      path: z.string(),
      size: z.int().min(0),
      sha256: Digest,
      /** SHA-256 of each part, in order; a part has at most 32 MiB. */
      parts: z.array(Digest),
    }),
  ),
});
export type FileSet = z.infer<typeof FileSetSchema>;

/** Frozen input of a run. */
export const SnapshotSchema = z.object({
  /** Digest of the sources' contents and how they are to be read. */
  digest: Digest,
  sources: z.array(
    z.object({
      uri: z.string(),
      format: z.enum(['jsonl', 'json', 'csv']),
      shape: z.string(),
      sizeBytes: z.int(),
      sha256: Digest,
      parts: z.array(Digest),
      etag: z.string().nullable(),
    }),
  ),
});
export type Snapshot = z.infer<typeof SnapshotSchema>;

/** What preprocess made. `files` holds `<split>.jsonl`, `<split>.safetensors` and `quarantine.jsonl`. */
export const DatasetSchema = z.object({
  digest: Digest,
  snapshot: Digest,
  files: FileSetSchema,
  accounts: AccountsSchema,
  tokens: TokeniseResultSchema,
  system: z.string().nullable(),
});
export type Dataset = z.infer<typeof DatasetSchema>;

/** The numbered object by which an attempt takes over a run's training. Its creation is the lock. */
export const ClaimSchema = z.object({
  run: z.string(),
  number: z.int().min(1),
  /** Where this attempt resumes; null = from the start. */
  resumeFrom: z.object({ claim: z.int(), step: z.int() }).nullable(),
  workflowRunId: z.string(),
  /** The server's time at which the attempt was scheduled, ms since the epoch: orders attempts. */
  attemptScheduledMs: z.number(),
  host: z.string(),
  writeId: z.string(),
});
export type Claim = z.infer<typeof ClaimSchema>;

/** Committed training state; exists exactly when this manifest does. */
export const CheckpointSchema = z.object({
  run: z.string(),
  claim: z.int(),
  step: z.int(),
  terminal: z.boolean(),
  best: z.object({ step: z.int(), evalLoss: z.number() }).nullable(),
  /** Digest of the training inputs (data, base, recipe, libraries): a checkpoint of other inputs is never resumed. */
  lineage: Digest,
  files: FileSetSchema,
});
export type Checkpoint = z.infer<typeof CheckpointSchema>;

/** One recovery: what was detected, what it cost, what was done. */
export const ReceiptSchema = z.object({
  kind: z.string(),
  message: z.string(),
  atStep: z.int(),
  resumedFrom: z.int(),
  lostSteps: z.int(),
  /** From the death to its detection. */
  detectedMs: z.number(),
  /** From the death to the first step that had not been done before; null until it is done. */
  nextNewStepMs: z.number().nullable(),
  action: z.enum(['restarted', 'stopped']),
});
export type Receipt = z.infer<typeof ReceiptSchema>;

export const TrainingSchema = z.object({
  claim: z.int(),
  adapter: FileSetSchema,
  lineage: Digest,
  baseDigest: Digest,
  result: TrainResultSchema,
  receipts: z.array(ReceiptSchema),
  /** Loss by step, thinned to at most 200 points. */
  lossCurve: z.array(z.object({ step: z.int(), loss: z.number() })),
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
  /** Token-weighted mean negative log-likelihood of the references, and its exponential. */
  loss: z.number(),
  perplexity: z.number(),
});
export type VariantScore = z.infer<typeof VariantScoreSchema>;

export const EvaluationSchema = z.object({
  rows: z.int(),
  /** Digest of the scored rows. */
  rowsDigest: Digest,
  matchKind: z.enum(['exact', 'json', 'none']),
  base: VariantScoreSchema,
  /** The untuned model with examples in its prompt; null when `control.shots` is 0 or the task has no match. */
  control: VariantScoreSchema.nullable(),
  candidate: VariantScoreSchema,
  gate: z.object({
    metric: z.enum(['match', 'loss']),
    /** What the candidate is compared with. */
    against: z.string(),
    /** Candidate minus the other, for `match` in shares, for `loss` in nats saved; above 0 is better. */
    difference: z.number(),
    low: z.number(),
    high: z.number(),
    confidence: z.number(),
    /** `low` must lie above it. */
    minGain: z.number().default(0),
    /** Exact McNemar test (two-sided), for `match`. */
    pValue: z.number().nullable(),
    verdict: z.enum(['pass', 'fail', 'inconclusive']),
    reason: z.string(),
  }),
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
  peft: z.literal('lora'),
  data: z.object({
    snapshot: Digest,
    dataset: Digest,
    accounts: AccountsSchema,
    system: z.string().nullable(),
    templateSha256: Digest,
  }),
  recipe: z.record(z.string(), z.unknown()),
  recipeDigest: Digest,
  training: TrainResultSchema.omit({ adapter: true }).extend({
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
