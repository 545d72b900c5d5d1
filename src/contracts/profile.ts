// What is known of the rows of a range, or of many: counts of bounded size that merge, so that a data card costs no second pass.
import { z } from 'zod';
import { QuarantinedRowSchema } from './rows.ts';

const Count = z.int().min(0);
const Counts = z.record(z.string(), Count);

/** Rows by a length n ≥ 1: bucket b counts 2^(b/4) ≤ n < 2^((b+1)/4), so that a bucket is 19 % wide. Nothing behind the last one that counts. */
const HistogramSchema = z.array(Count);

/** Rows by a text that they have; the key is a digest, `text` the beginning as people may see it. */
const TextsSchema = z.record(z.string(), z.object({ rows: Count, text: z.string() }));
export type SampledTexts = z.infer<typeof TextsSchema>;

/** What is too dear to count in every row, of the rows whose place hashes to this many leading zero bits. */
const SampleLevelSchema = z.object({
  rows: Count,
  /** ISO 639-1; `und` where the text is too short to tell. */
  languages: Counts,
  /** Of rows whose language is not told yet: the beginning of their text, redacted. */
  starts: z.array(z.string()).default([]),
  /** `path:type` of the source row's fields, two deep, such as `messages[].role:string`. */
  fields: Counts,
  mojibake: Count,
  /** Answers with a code fence that is not closed. */
  openFences: Count,
  refusals: Count,
  /** A letter for each message, such as `suaua`. */
  rolePatterns: Counts,
  systemPrompts: TextsSchema,
  answers: TextsSchema,
  /** Rows by the start of their id: of the same row there may be several. The text is that of the question. */
  copies: TextsSchema,
});
export type SampleLevel = z.infer<typeof SampleLevelSchema>;

/** Of the rows that cleaning kept; which of them are duplicates is decided later. */
export const ProfileSchema = z.object({
  rows: Count,
  characters: Count,
  jsonBytes: Count,
  rowLengths: HistogramSchema,
  answerLengths: HistogramSchema,
  /** Rows by number of messages; `100` = 100 or more. */
  turns: Counts,
  withSystem: Count,
  withTools: Count,
  withToolCalls: Count,
  withReasoning: Count,
  withMedia: Count,
  /** With an answer of weight 0. */
  withUntrained: Count,
  emptySystem: Count,
  answerIsQuestion: Count,
  /** Judged answers by their label. */
  labels: z.object({ wanted: Count, unwanted: Count }),
  /** By index of the source. */
  bySource: z.record(z.string(), z.object({ rows: Count, characters: Count })),
  /** Levels from `level` on are whole, those below were given up; `levels[0]` is that of `level`. */
  sample: z.object({ level: Count, levels: z.array(SampleLevelSchema) }),
  /** The first three of each code. */
  examples: z.record(z.string(), z.array(QuarantinedRowSchema)),
});
export type Profile = z.infer<typeof ProfileSchema>;
