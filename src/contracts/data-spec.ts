// The part of a spec that says where rows come from and what becomes of them before they are trained on.
import { z } from 'zod';
import { ColumnsSchema, RolesSchema, TurnsSchema } from './column-map.ts';
import { DecontaminateSchema, FiltersSchema, NearDuplicatesSchema, PrivacySchema } from './privacy-rules.ts';
import { RulesSchema } from './rules.ts';

export const CHAT_SHAPES = [
  'messages',
  'sharegpt',
  'alpaca',
  'prompt-completion',
  'question-answer',
  'user-assistant',
  'text',
] as const;

/** What text may be written in besides UTF-8; `utf-16` goes by its byte order mark. */
export const ENCODINGS = [
  ...(['utf-16', 'utf-16le', 'utf-16be', 'gb18030', 'gbk', 'big5', 'shift_jis', 'euc-jp', 'euc-kr'] as const),
  ...(['cp1250', 'cp1251', 'cp1252', 'cp1253', 'cp1254', 'cp1255', 'cp1256', 'cp1257', 'cp1258'] as const),
  ...(['iso-8859-1', 'iso-8859-2', 'iso-8859-5', 'iso-8859-7', 'iso-8859-9', 'iso-8859-15', 'koi8-r'] as const),
] as const;

const FollowSchema = z.strictObject({
  /** `all` reads everything and says what is new; `new` gives only that. */
  mode: z.enum(['all', 'new']).default('all'),
  /** Of a database: `column` grows with each change of a row (a time or a number), `key` tells rows apart. */
  watermark: z
    .strictObject({ column: z.string().min(1).max(200), key: z.string().min(1).max(200) })
    .nullable()
    .default(null),
  /** How far before the watermark it looks again, for rows that were committed late: seconds of a time, units of a number. */
  overlap: z.number().min(0).max(604_800).default(300),
});
const FOLLOW_ALL: z.infer<typeof FollowSchema> = { mode: 'all', watermark: null, overlap: 300 };

const NO_PASSWORD =
  'holds a password, which would stand in the history of every run; take it out and set PGPASSWORD or ~/.pgpass on the data worker';

function hasNoPassword(uri: string): boolean {
  return !/^postgres(ql)?:/i.test(uri) || !(/^[a-z]+:\/\/[^/@]*:[^/@]*@/i.test(uri) || /[?&]password=/i.test(uri));
}

/** How much of a source the dataset takes. Rows are chosen by a hash of their content, never by position. */
const WeightSchema = z
  .strictObject({
    /** Share of the dataset's rows, reached by leaving rows of this source out. */
    ratio: z.number().gt(0).max(1).optional(),
    /** How often each row stands in the training split. */
    repeat: z.int().min(1).max(100).optional(),
    /** Most rows that are taken. */
    cap: z.int().min(1).optional(),
  })
  .refine((weight) => Object.values(weight).filter((value) => value !== undefined).length === 1, {
    message: 'must have one of `ratio`, `repeat` and `cap`',
  });
export type Weight = z.infer<typeof WeightSchema>;

export const SourceSchema = z.strictObject({
  /**
   * `path`, `file://…`, `http(s)://…`, `s3://bucket/key`, `example:<name>`, `sqlite:<path>` or `postgres://user@host/database`. Paths and
   * keys may be patterns (`data/*.jsonl`, `s3://bucket/logs/**`) or folders (`data/`, `s3://bucket/prefix/`).
   */
  uri: z.string().min(1).max(2048).refine(hasNoPassword, NO_PASSWORD),
  /** `document` = one row of text for each Markdown, HTML, text, PDF or DOCX file. */
  format: z.enum(['auto', 'jsonl', 'json', 'csv', 'parquet', 'document']).default('auto'),
  /** Of text that is not UTF-8; `auto` takes what the bytes look like, null refuses it with a sentence that says what that is. */
  encoding: z
    .enum(['auto', ...ENCODINGS])
    .nullable()
    .default(null),
  /** Of a Hugging Face data set with several configurations. */
  config: z.string().min(1).max(200).nullable().default(null),
  /** Of a database: one SELECT, or the name of a table. */
  query: z.string().min(1).max(65_536).nullable().default(null),
  table: z.string().min(1).max(200).nullable().default(null),
  /** Remembers what each run took, so that the next one of the same spec name can tell what is new. */
  follow: z.union([z.literal(false), z.literal(true).transform(() => FOLLOW_ALL), FollowSchema]).default(false),
  /** Lets an `http(s)://` source lie on a private, loopback or link-local address. */
  allowPrivate: z.boolean().default(false),
  /**
   * `preference` = a prompt with a chosen and a rejected answer (with `train.method: sft` the chosen one is learned), `kto` = a prompt,
   * a completion and a label, `stepwise` = a prompt with steps (`completions`) and a label for each (`labels`; with `kto` the solution is
   * wanted when all are right, with `sft` only such rows are learned), `text` = text without turns, every token of which is trained on.
   * `auto` looks for what the method needs.
   */
  shape: z.enum(['auto', ...CHAT_SHAPES, 'preference', 'kto', 'stepwise']).default('auto'),
  /**
   * Fields of a row made of this source's columns: `user: "{{question}}"`. `{{name?}}` may be empty, `{{#name}}…{{/name}}` is left out
   * where the column is, and `{{a.b[0]}}` goes into a value. null = the rows have a known shape as they are.
   */
  columns: ColumnsSchema.nullable().default(null),
  /** What the turns' fields are called where they are not OpenAI's or ShareGPT's. */
  turns: TurnsSchema.nullable().default(null),
  /** The source's own names of roles: `{customer: user, agent: assistant}`. */
  roles: RolesSchema.default({}),
  /** How much of it the dataset takes; null = every row once. */
  weight: WeightSchema.nullable().default(null),
});
export type Source = z.infer<typeof SourceSchema>;

/** Everything that a dataset is made of: its sources, then the evaluation suites that it must not hold. */
export function inputsOf({ sources, decontaminate }: DataSpec): Source[] {
  return [...sources, ...suitesOf({ decontaminate })];
}

export function suitesOf({ decontaminate }: Pick<DataSpec, 'decontaminate'>): Source[] {
  return decontaminate.against.map((uri) => SourceSchema.parse({ uri }));
}

/**
 * What becomes of rows longer than `maxLength`. `drop`: dropped with the code `too_long`. `truncate`: the front stays, up to the end of
 * a turn where one fits. `split`: chats are cut at user turns into rows with the system turn and as much of what came before as fits, text
 * into blocks; pairs and judged answers are dropped. `auto`: text is split, everything else dropped.
 */
export const TooLongSchema = z.enum(['auto', 'drop', 'truncate', 'split']);
export type TooLong = z.infer<typeof TooLongSchema>;

/** Shares above 1 cannot be; where all sources have one, the shares are of one whole. */
function checkRatios(sources: Source[], context: z.RefinementCtx): void {
  const ratios = sources.flatMap(({ weight }) => weight?.ratio ?? []);
  const total = ratios.reduce((sum, ratio) => sum + ratio, 0);
  const isWhole = ratios.length === sources.length;
  if (ratios.length === 0 || (isWhole ? Math.abs(total - 1) < 1e-6 : total < 1)) return;
  const message = isWhole
    ? `have ratios that add up to ${total}; where every source has one they must add up to 1`
    : `have ratios that add up to ${total}, which leaves nothing to the others; they must stay below 1`;
  context.addIssue({ code: 'custom', message });
}

export const DataSchema = z.strictObject({
  sources: z.array(SourceSchema).min(1).max(100).superRefine(checkRatios),
  /** System message put before rows that have none, in training, evaluation and serving alike. */
  system: z.string().max(8192).nullable().default(null),
  /**
   * What becomes of rows that break a rule, by its code: `error`, `quarantine`, `fix` or `warn`; a code that is not named is
   * quarantined, but for `scores_contradict` (pairs whose scores prefer the rejected answer), which warns. With `invalid_utf8: fix` bytes that are not UTF-8 are read as Windows-1252. `mojibake` (UTF-8 that was read as CP1252) and `trailing_space` (of answers) are looked for only where they are named.
   */
  rules: RulesSchema.default({}),
  /** Sensitive columns, taken out before anything else sees a row; a name or a path such as `user.email`. At most 256. */
  dropColumns: z.array(z.string().min(1).max(256)).max(256).default([]),
  /** Field of the source row whose value keeps rows together in one split; null = the first user message. */
  groupBy: z.string().nullable().default(null),
  /**
   * Shares of the groups held out; the rest trains. Chosen by a hash of the group, never by position. What an earlier dataset of the same
   * name held out stays held out, whatever becomes of shares and salt.
   */
  split: z
    .strictObject({
      test: z.number().gt(0).max(0.5).default(0.1),
      validation: z.number().min(0).max(0.5).default(0.05),
      salt: z.string().max(64).default('anneal'),
    })
    .prefault({}),
  /** Longest row in tokens. */
  maxLength: z.int().min(8).max(131072).default(1024),
  tooLong: TooLongSchema.default('auto'),
  filters: FiltersSchema.prefault({}),
  /** Personal data and secrets in the rows. */
  privacy: PrivacySchema.prefault({}),
  nearDuplicates: NearDuplicatesSchema.prefault({}),
  decontaminate: DecontaminateSchema.prefault({}),
  /** What fails the run before anything is trained. */
  gates: z
    .strictObject({
      /** Highest share of the rows that may be dropped for faults; what filters and privacy take out on request does not count. */
      maxQuarantined: z.number().min(0).max(1).default(0.05),
      /** Fewest rows that must be kept. */
      minRows: z.int().min(1).default(1),
    })
    .prefault({}),
});
type DataSpec = z.infer<typeof DataSchema>;
