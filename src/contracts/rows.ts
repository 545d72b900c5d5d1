// The canonical rows, which every source is mapped to, and the record of a row that was dropped.
import { z } from 'zod';

/** A message of a chat. Tool calls and their arguments stay JSON text, because columns need one type. */
export const MessageSchema = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
  content: z.string(),
  name: z.string().optional(),
  /** 0 = context only, 1 = trained on. Assistant messages only; absent = 1. */
  weight: z.union([z.literal(0), z.literal(1)]).optional(),
  /** JSON text of OpenAI `tool_calls`. */
  tool_calls: z.string().optional(),
  tool_call_id: z.string().optional(),
});
export type Message = z.infer<typeof MessageSchema>;

/** 32 hex digits of the SHA-256 of the row's content: all but group and src. */
const Id = z.string().regex(/^[0-9a-f]{32}$/);
const Origin = {
  /** JSON text of the tool definitions. */
  tools: z.string().optional(),
  /** 16 hex digits: rows with one group never cross a split. */
  group: z.string().regex(/^[0-9a-f]{16}$/),
  /** Where the row came from: index into the snapshot's sources, and the 1-based physical line on which it starts. */
  src: z.object({ source: z.int().min(0), line: z.int().min(1) }),
};

/** A chat as it lies in a dataset, one JSON object a line, keys in this order. */
export const RowSchema = z.object({ id: Id, messages: z.array(MessageSchema).min(1), ...Origin });
export type Row = z.infer<typeof RowSchema>;

/** Two answers to one prompt, each one assistant turn. */
export const PairRowSchema = z.object({
  id: Id,
  prompt: z.array(MessageSchema).min(1),
  chosen: MessageSchema,
  rejected: MessageSchema,
  ...Origin,
});
export type PairRow = z.infer<typeof PairRowSchema>;

/** An answer, one assistant turn, and whether such answers are wanted. */
export const JudgedRowSchema = z.object({
  id: Id,
  prompt: z.array(MessageSchema).min(1),
  completion: MessageSchema,
  label: z.boolean(),
  ...Origin,
});
export type JudgedRow = z.infer<typeof JudgedRowSchema>;

/** The rows that each training method learns from. */
export const ROW_KINDS = { sft: 'chat', dpo: 'pair', reward: 'pair', kto: 'judged' } as const;
export type Method = keyof typeof ROW_KINDS;
export type RowKind = (typeof ROW_KINDS)[Method];

export const DROP_CODES = [
  'invalid_utf8',
  'invalid_json',
  'too_large',
  'not_object',
  'unknown_shape',
  'missing_field',
  'wrong_type',
  'unknown_role',
  'empty_content',
  'bad_turn_order',
  'last_not_assistant',
  'no_trainable_turn',
  'bad_weight',
  'not_for_method',
  'prompts_differ',
  'empty_answer',
  'not_one_answer',
  'chosen_equals_rejected',
  'label_missing',
  'bad_label',
  'csv_missing_columns',
  'csv_too_many_columns',
  'csv_stray_quote',
  'csv_unterminated_quote',
  'too_long',
  'no_trainable_token',
] as const;
export type DropCode = (typeof DROP_CODES)[number];

/** A line of the quarantine object: what was wrong with one row, where, and how to mend it. */
export const QuarantinedRowSchema = z.object({
  source: z.string(),
  line: z.int().min(1),
  code: z.enum(DROP_CODES),
  /** Path inside the row, such as `messages[0].content`; empty for the row itself. */
  path: z.string(),
  message: z.string(),
  /** At most 200 characters of the row. */
  preview: z.string(),
});
export type QuarantinedRow = z.infer<typeof QuarantinedRowSchema>;

export const SPLITS = ['train', 'validation', 'test'] as const;
export type Split = (typeof SPLITS)[number];

/** rowsIn = kept + duplicates + the sum of `dropped`, and kept = the sum of `splits`; checked where it is made. */
export const AccountsSchema = z.object({
  rowsIn: z.int().min(0),
  kept: z.int().min(0),
  duplicates: z.int().min(0),
  dropped: z.record(z.string(), z.int().min(0)),
  splits: z.record(z.enum(SPLITS), z.int().min(0)),
  bySource: z.array(
    z.object({
      uri: z.string(),
      rowsIn: z.int().min(0),
      kept: z.int().min(0),
      duplicates: z.int().min(0),
      dropped: z.record(z.string(), z.int().min(0)),
    }),
  ),
});
export type Accounts = z.infer<typeof AccountsSchema>;
