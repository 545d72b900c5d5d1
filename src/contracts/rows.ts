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
  /** What an assistant thought before it answered; it is up to the template whether the model sees it. */
  reasoning_content: z.string().optional(),
});
export type Message = z.infer<typeof MessageSchema>;

/** 32 hex digits of the SHA-256 of the row's content: all but group and src. Of a row that was cut into several: `…#1`, `…#2`. */
const Id = z.string().regex(/^[0-9a-f]{32}(#\d+)?$/);
const Origin = {
  /** JSON text of the tool definitions. */
  tools: z.string().optional(),
  /** 16 hex digits: rows with one group never cross a split. */
  group: z.string().regex(/^[0-9a-f]{16}$/),
  /** Where the row came from: index into the snapshot's sources, and the 1-based physical line on which it starts. */
  src: z.object({ source: z.int().min(0), line: z.int().min(1) }),
};

export const MEDIA_TYPES = ['image/png', 'image/jpeg', 'image/webp', 'image/gif'] as const;

/** An image of a row; its bytes are the blob of that digest. */
export const MediaRefSchema = z.object({
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  type: z.enum(MEDIA_TYPES),
  /** Pixels. */
  width: z.int().min(1),
  height: z.int().min(1),
  sizeBytes: z.int().min(1),
});
export type MediaRef = z.infer<typeof MediaRefSchema>;

/** Stands in the text of a chat where its next image belongs. */
export const IMAGE_TAG = '<image>';

/** A chat as it lies in a dataset, one JSON object a line, keys in this order: `media` after `tools`. */
export const RowSchema = z.object({
  id: Id,
  messages: z.array(MessageSchema).min(1),
  ...Origin,
  media: z.array(MediaRefSchema).min(1).optional(),
});
export type Row = z.infer<typeof RowSchema>;

/** A text without turns, every token of which is trained on. */
export const TextRowSchema = z.object({ id: Id, text: z.string().min(1), group: Origin.group, src: Origin.src });
export type TextRow = z.infer<typeof TextRowSchema>;

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
  'document_unreadable',
  'document_is_scan',
  'document_locked',
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
  'scores_contradict',
  'label_missing',
  'bad_label',
  'tool_call_without_result',
  'tool_result_without_call',
  'bad_tool_schema',
  'media_missing',
  'media_unreadable',
  'media_count_mismatch',
  'mojibake',
  'trailing_space',
  'csv_missing_columns',
  'csv_too_many_columns',
  'csv_stray_quote',
  'csv_unterminated_quote',
  'too_long',
  'no_trainable_token',
  'media_not_trained',
  'left_out_by_template',
  'too_short',
  'too_long_text',
  'lang_excluded',
  'pii_dropped',
  'pii_blocked',
  'near_duplicate',
  'contaminated',
] as const;
export type DropCode = (typeof DROP_CODES)[number];

/** A line of the quarantine object: what was wrong with one row, where, and how to mend it. */
export const QuarantinedRowSchema = z.object({
  source: z.string(),
  line: z.int().min(1),
  /** Where the row's bytes lie in its source, as far as it was read; absent where only the tokeniser saw it. */
  byteOffset: z.int().min(0).optional(),
  byteLength: z.int().min(0).optional(),
  code: z.enum(DROP_CODES),
  /** Path inside the row, such as `messages[0].content`; empty for the row itself. */
  path: z.string(),
  message: z.string(),
  /** What the rule wants at `path` and what stands there, where it is one thing; texts of the row are masked. */
  expected: z.string().optional(),
  found: z.string().optional(),
  /** At most 200 characters of the row. */
  preview: z.string(),
});
export type QuarantinedRow = z.infer<typeof QuarantinedRowSchema>;

export const SPLITS = ['train', 'validation', 'test'] as const;
export type Split = (typeof SPLITS)[number];

const Count = z.int().min(0);

const Book = {
  rowsIn: Count,
  kept: Count,
  duplicates: Count,
  dropped: z.record(z.string(), Count),
  /** Dropped because a row that is nearly the same stays; absent = 0, and so are the next two. */
  nearDuplicates: Count.optional(),
  /** Taken out by the source's `weight`. */
  leftOut: Count.optional(),
  /** Copies of kept rows that the source's `weight` adds to the training split. */
  repeated: Count.optional(),
};

/**
 * rowsIn = kept + duplicates + nearDuplicates + leftOut + the sum of `dropped`, and kept + repeated = the sum of `splits`; checked where it
 * is made.
 */
export const AccountsSchema = z.object({
  ...Book,
  splits: z.record(z.enum(SPLITS), Count),
  bySource: z.array(z.object({ uri: z.string(), ...Book })),
});
export type Accounts = z.infer<typeof AccountsSchema>;
