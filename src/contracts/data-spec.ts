// The part of a spec that says where rows come from and what becomes of them before they are trained on.
import { z } from 'zod';

export const CHAT_SHAPES = ['messages', 'sharegpt', 'alpaca', 'prompt-completion', 'question-answer'] as const;

const SourceSchema = z.strictObject({
  /** `path`, `file://…`, `http(s)://…`, `s3://bucket/key` or `example:<name>`. */
  uri: z.string().min(1).max(2048),
  format: z.enum(['auto', 'jsonl', 'json', 'csv']).default('auto'),
  /**
   * `preference` = a prompt with a chosen and a rejected answer (with `train.method: sft` the chosen one is learned), `kto` = a prompt,
   * a completion and a label. `auto` looks for what the method needs.
   */
  shape: z.enum(['auto', ...CHAT_SHAPES, 'preference', 'kto']).default('auto'),
});
export type Source = z.infer<typeof SourceSchema>;

export const DataSchema = z.strictObject({
  sources: z.array(SourceSchema).min(1).max(100),
  /** System message put before rows that have none, in training, evaluation and serving alike. */
  system: z.string().max(8192).nullable().default(null),
  /** Field of the source row whose value keeps rows together in one split; null = the first user message. */
  groupBy: z.string().nullable().default(null),
  /** Shares of the groups held out; the rest trains. Chosen by a hash of the group, never by position. */
  split: z
    .strictObject({
      test: z.number().gt(0).max(0.5).default(0.1),
      validation: z.number().min(0).max(0.5).default(0.05),
      salt: z.string().max(64).default('anneal'),
    })
    .prefault({}),
  /** Longest row in tokens; longer ones are dropped with the code `too_long`. */
  maxLength: z.int().min(8).max(131072).default(1024),
});
