// The data card as JSON: what is said of a dataset in Markdown and HTML too.
import { z } from 'zod';
import { LeakageSchema } from './ranges.ts';
import { QuarantinedRowSchema, SPLITS } from './rows.ts';

const Count = z.int().min(0);
const Counts = z.record(z.string(), Count);

const BookSchema = z.object({
  rowsIn: Count,
  kept: Count,
  duplicates: Count,
  nearDuplicates: Count,
  /** Taken out by weights of sources. */
  leftOut: Count,
  /** By code; rowsIn = kept + duplicates + nearDuplicates + leftOut + the sum of these. */
  dropped: Counts,
});
export type CardBook = z.infer<typeof BookSchema>;

/** Lengths in buckets of 19 %: entry b counts 2^(b/4) ≤ n < 2^((b+1)/4). Quantiles are the middle of their bucket. */
const LengthsSchema = z.object({
  histogram: z.array(Count),
  p50: z.number().nullable(),
  p95: z.number().nullable(),
  p99: z.number().nullable(),
  max: z.number().nullable(),
});
export type CardLengths = z.infer<typeof LengthsSchema>;

const TopSchema = z.array(z.object({ text: z.string(), rows: Count, share: z.number() }));

const DistributionSchema = z.object({
  name: z.string(),
  /** Population stability index: Σ (p − q) ln (p ÷ q) over the bins. */
  psi: z.number(),
  threshold: z.number(),
  drifted: z.boolean(),
});

export const CardSchema = z.object({
  v: z.literal(1),
  name: z.string(),
  run: z.string().nullable(),
  method: z.string(),
  verdict: z.object({
    state: z.enum(['pass', 'warnings', 'blocked']),
    /** The one thing to know or to mend. */
    sentence: z.string(),
  }),
  alerts: z.array(z.object({ code: z.string(), sentence: z.string() })),
  rows: BookSchema,
  /** Copies that weights add to the training split. */
  repeated: Count,
  fixed: Counts,
  warned: Counts,
  /** Found nearly the same as an earlier row, whether dropped or not; null = not looked for. */
  nearFound: Count.nullable(),
  sources: z.array(
    BookSchema.extend({
      uri: z.string(),
      sizeBytes: Count,
      format: z.string(),
      converted: z.string().nullable(),
      sha256: z.string(),
      etag: z.string().nullable(),
      /** Of the dataset's text, weights and copies counted; reckoned from the mean length of the source's rows. */
      share: z.number(),
    }),
  ),
  codes: z.array(
    z.object({
      code: z.string(),
      rows: Count,
      share: z.number(),
      hint: z.string().nullable(),
      examples: z.array(QuarantinedRowSchema),
    }),
  ),
  splits: z.array(
    z.object({
      name: z.enum(SPLITS),
      rows: Count,
      tokens: Count.nullable(),
      trainableTokens: Count.nullable(),
    }),
  ),
  leakage: LeakageSchema.nullable(),
  characters: LengthsSchema,
  answers: LengthsSchema,
  /** Of the training split; null before it is tokenised. */
  tokens: LengthsSchema.nullable(),
  /** `split` rows became `into`; `lostTurns` of them fit nowhere; `lostTokens` were cut off the truncated ones. */
  tooLong: z.object({
    ...{
      maxLength: Count,
      dropped: Count,
      truncated: Count,
      lostTokens: Count,
      split: Count,
      into: Count,
      lostTurns: Count,
    },
  }),
  /** Rows of an epoch when short ones are put into one, as long as `room` tokens, and how full they are. */
  packing: z.object({ rows: Count, room: Count, fill: z.number() }).nullable(),
  turns: Counts,
  rolePatterns: TopSchema,
  systemPrompts: TopSchema,
  topAnswers: TopSchema,
  /** Scaled from the sample. */
  duplicateClusters: z.array(z.object({ id: z.string(), text: z.string(), rows: Count })),
  languages: TopSchema,
  /** Rows that the lists above, the languages and some alerts are taken from; of fewer rows all. */
  sampledRows: Count,
  features: Counts,
  pii: z.array(z.object({ type: z.string(), found: Count, action: z.string() })),
  drift: z
    .object({
      against: z.string(),
      distributions: z.array(DistributionSchema),
      newFields: z.array(z.string()),
      missingFields: z.array(z.string()),
    })
    .nullable(),
  sample: z.array(z.object({ text: z.string(), trainable: z.boolean() })),
  /** Columns that were taken out before anything else saw a row. */
  dropColumns: z.array(z.string()),
  notes: z.array(z.string()),
  lineage: z.object({
    dataset: z.string().nullable(),
    snapshot: z.string(),
    rules: z.string(),
    code: z.string(),
    tokenizer: z.string().nullable(),
    template: z.string().nullable(),
    seconds: z.number().nullable(),
    megabytesPerSecond: z.number().nullable(),
    /** Address of the workflow's page. */
    workflow: z.string().nullable(),
  }),
});
export type Card = z.infer<typeof CardSchema>;
