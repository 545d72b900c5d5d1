// Records of preprocess between the snapshot and the dataset: what is cut into ranges, what each range gave, and who stays.
import { z } from 'zod';
import { CleanedRangeSchema } from './cleaned-range.ts';
import { Digest, FileSetSchema, StoredFileSchema } from './records.ts';
import { SPLITS } from './rows.ts';
import { SpecSchema } from './spec.ts';
import { TokeniseResultSchema } from './trainer-protocol.ts';

const Count = z.int().min(0);

/** A stretch of a source that is cleaned at a time. */
export const PieceSchema = z.object({
  /** Index into the snapshot's sources. */
  source: Count,
  startOffset: Count,
  /** null = to the end of the source. */
  endOffset: z.int().min(1).nullable(),
  /** 1-based physical line on which it starts. */
  firstLine: z.int().min(1),
  /** Of a CSV that it does not start. */
  header: CleanedRangeSchema.shape.header,
});
export type Piece = z.infer<typeof PieceSchema>;

/** How preprocess goes about a snapshot. A range is one activity and one shard: a stretch of a large source, or several small sources. */
export const RangePlanSchema = z.object({
  snapshot: Digest,
  ranges: z.array(z.array(PieceSchema).min(1)),
  /** Earlier datasets of the same name whose held-out groups stay where they are. */
  pins: z.array(z.string()),
  /** Snapshot of the evaluation suites that must not be trained on; null = none. */
  suites: Digest.nullable(),
});
export type RangePlan = z.infer<typeof RangePlanSchema>;

/** What the activities of a preparation have in common: kept in the store, so that history holds references. */
export const PreparationSchema = z.object({ spec: SpecSchema, plan: RangePlanSchema });
export type Preparation = z.infer<typeof PreparationSchema>;

/** What a run resolves: its preparation, and the digests of its cleaned ranges in order. */
export const RunRangesSchema = z.object({ preparation: Digest, cleaned: z.array(Digest) });

export const CleanedPieceSchema = z.object({
  source: Count,
  counts: CleanedRangeSchema,
  /** The files of a range, by the names of `RANGE_FILES` and `rowsFileName`. */
  files: FileSetSchema,
});
export type CleanedPiece = z.infer<typeof CleanedPieceSchema>;

/** What an activity made of its range: a piece each, in the order of the plan. */
export const CleanedRangeRecordSchema = z.object({ pieces: z.array(CleanedPieceSchema) });

/** What became of the rows that a source's ranges offer. */
export const ResolvedSourceSchema = z.object({
  splits: z.record(z.enum(SPLITS), Count),
  duplicates: Count,
  nearDuplicates: Count,
  /** Rows that are nearly the same as another, dropped or not. */
  nearFound: Count,
  contaminated: Count,
  /** Taken out by `weight`. */
  leftOut: Count,
  /** Copies of rows of the training split that `weight.repeat` adds. */
  repeated: Count,
});
export type ResolvedSource = z.infer<typeof ResolvedSourceSchema>;

/** Held-out rows whose text stands word for word in training rows. */
export const HeldOutTextSchema = z.object({
  /** Words in a row that both have. */
  words: Count,
  /** Rows that are held out. */
  heldOut: Count,
  /** Of those, the ones that share text with at most ten training rows; with more of them only, which is their template. */
  shared: Count,
  template: Count,
  /** Training rows that share text with a held-out one, templates aside. */
  trainRows: Count,
  /** These are not trained on, so that in the end no held-out row shares text. */
  dropped: z.boolean(),
});
export type HeldOutText = z.infer<typeof HeldOutTextSchema>;

/** What holds the splits apart. */
export const LeakageSchema = z.object({
  /** Groups that are held out and trained on; null = too many to count. */
  sharedGroups: Count.nullable(),
  sharedRows: Count,
  /** Training rows that are nearly the same as one that is held out, and stay. */
  nearCrossing: Count,
  /** Rows dropped for each evaluation. */
  evals: z.array(z.object({ name: z.string(), rows: Count })),
  /** null = not looked for. */
  heldOutText: HeldOutTextSchema.nullable().default(null),
});
export type Leakage = z.infer<typeof LeakageSchema>;

/** Who stays, over all ranges. */
export const ResolutionSchema = z.object({
  plan: Digest,
  /** One byte a row that a range offers: `FATE`. One file for each range. */
  fates: z.array(StoredFileSchema),
  sources: z.array(ResolvedSourceSchema),
  /** Digest of which row is in which split. */
  rows: Digest,
  /** Splits that are made. */
  splits: z.array(z.enum(SPLITS)),
  /** Groups that were moved to a split that would have been empty. */
  moved: z.record(z.string(), z.enum(SPLITS)),
  /** Groups of the rows that are held out, 8 bytes each. */
  heldOut: z.object({ validation: StoredFileSchema, test: StoredFileSchema }),
  leakage: LeakageSchema,
  /** What was decided from the data. */
  notes: z.array(z.string()),
  /** Sentence of the gate that fails; null = the data may be trained on. */
  blocked: z.string().nullable(),
});
export type Resolution = z.infer<typeof ResolutionSchema>;

/** What the tokeniser made of a range. */
export const TokenisedRangeSchema = z.object({
  /** `<split>.jsonl` and `<split>.safetensors`, and what it adds to the quarantine. */
  files: FileSetSchema,
  tokens: TokeniseResultSchema,
  rejected: z.array(z.object({ source: Count, split: z.enum(SPLITS), code: z.string(), rows: Count, copies: Count })),
  /** Tokens of the shortest row that is too long. */
  shortestTooLong: z.int().nullable(),
});
export type TokenisedRange = z.infer<typeof TokenisedRangeSchema>;

/** Where an earlier dataset of a name put its groups. */
export const PinsSchema = z.object({
  dataset: Digest,
  /** Of the data and the rules that it was made of: made again of them, its groups fall where they fell. */
  input: Digest,
  /** What decided the split: with the same rule the groups fall where they fell. */
  rule: z.object({ groupBy: z.string().nullable(), salt: z.string(), test: z.number(), validation: z.number() }),
  /** Groups that went elsewhere than the rule says. */
  moved: z.record(z.string(), z.enum(SPLITS)),
  heldOut: ResolutionSchema.shape.heldOut,
});
export type Pins = z.infer<typeof PinsSchema>;
