// The spec of a run: what a user writes in YAML or JSON. Every field has a default and a limit; `{}` is the demo.
import { z } from 'zod';
import { DEMO_SPEC } from './demo-spec.ts';
import { AnnealError, type Problem } from './failure.ts';
import { STAGES } from './names.ts';

/** A name that is safe in object keys, workflow ids and URLs. */
const NameSchema = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,62}$/,
    'must be 1 to 63 lower-case letters, digits or hyphens, and start with a letter or digit',
  );

const SourceSchema = z.strictObject({
  /** `path`, `file://…`, `http(s)://…`, `s3://bucket/key` or `example:<name>`. */
  uri: z.string().min(1).max(2048),
  format: z.enum(['auto', 'jsonl', 'json', 'csv']).default('auto'),
  shape: z.enum(['auto', 'messages', 'sharegpt', 'alpaca', 'prompt-completion', 'question-answer']).default('auto'),
});
export type Source = z.infer<typeof SourceSchema>;

const DataSchema = z.strictObject({
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

const LoraSchema = z.strictObject({
  rank: z.int().min(1).max(512).default(16),
  alpha: z.number().gt(0).max(1024).default(32),
  dropout: z.number().min(0).max(0.9).default(0),
  /** `auto` = every attention and MLP projection of the model's family. */
  targets: z.union([z.literal('auto'), z.array(z.string()).min(1)]).default('auto'),
  /** Adapt this layer and those above it; 0 = all. Gradients stop below it, which saves time. */
  firstLayer: z.int().min(0).max(1000).default(0),
});

const TrainFieldsSchema = z.strictObject({
  /** `sft` learns answers, `dpo` learns which of two answers is better (LoRA only). */
  method: z.enum(['sft', 'dpo']).default('sft'),
  /** `lora` trains an adapter, `full` every weight of the model. */
  tuning: z.enum(['lora', 'full']).default('lora'),
  lora: LoraSchema.prefault({}),
  epochs: z.number().gt(0).max(1000).default(3),
  /** Ends earlier than the epochs would; null = by epochs. */
  maxSteps: z.int().min(1).max(10_000_000).nullable().default(null),
  /** Rows that go through the model at once. Effective batch = microBatch × accumulation × processes. */
  microBatch: z.int().min(1).max(1024).default(8),
  accumulation: z.int().min(1).max(1024).default(1),
  learningRate: z.number().gt(0).max(1).default(2e-4),
  schedule: z.enum(['linear', 'cosine', 'constant']).default('linear'),
  warmupRatio: z.number().min(0).max(1).default(0.1),
  weightDecay: z.number().min(0).max(1).default(0),
  maxGradNorm: z.number().gt(0).max(1000).default(1),
  seed: z.int().min(0).max(4_294_967_295).default(0),
  /** A checkpoint every so many steps; null = so often that saving costs about 1 % of the time, 10 s to 10 min apart. */
  saveSteps: z.int().min(1).nullable().default(null),
  /** Validation loss every so many steps; null = four times per run. */
  evalSteps: z.int().min(1).nullable().default(null),
  /** Checkpoints kept on the host and in the store besides the best. */
  keep: z.int().min(1).max(100).default(5),
  earlyStopping: z
    .strictObject({ patience: z.int().min(1).max(1000), threshold: z.number().min(0).default(0) })
    .nullable()
    .default(null),
  /** CPU threads of the trainer. Part of the recipe: another number gives other bits. */
  threads: z.int().min(1).max(256).default(2),
  /** Short rows share a row as long as the longest (best fit, decreasing), each seeing itself alone; `microBatch` then counts those. */
  packing: z.boolean().default(false),
  /** Rows are read from the shard front to back, for shards beyond the memory; shuffled in windows only. */
  streaming: z.boolean().default(false),
  /** Processes that prepare batches ahead; 0 = the trainer itself does. */
  dataloaderWorkers: z.int().min(0).max(16).default(0),
  /** Share of the prompts' tokens that are replaced at random, anew in each epoch. */
  tokenDropout: z.number().min(0).max(0.9).default(0),
  /** Ranks on this host that train together, each with its own micro-batches. At most 16, the GPUs of the largest hosts. */
  processes: z.int().min(1).max(16).default(1),
  /** How strongly `dpo` holds the model to what it was. */
  dpoBeta: z.number().gt(0).max(10).default(0.1),
  /** `cpu` also where the host has GPUs; `auto` = one GPU for each rank where it has any. */
  device: z.enum(['auto', 'cpu']).default('auto'),
});

/** What decides a training's bytes besides model and data. */
export const RecipeSchema = TrainFieldsSchema.superRefine((train, context) => {
  const refuse = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
  const { method, streaming } = train;
  if (method === 'dpo' && train.tuning === 'full') refuse('tuning', 'must be `lora` with `method: dpo`');
  if (method === 'dpo' && train.packing) refuse('packing', 'must be false with `method: dpo`');
  if (method === 'dpo' && streaming) refuse('streaming', 'must be false with `method: dpo`');
  if (streaming && train.packing)
    refuse('packing', 'must be false with `streaming`, which never sees all rows at once');
  if (streaming && train.processes > 1) refuse('processes', 'must be 1 with `streaming`, which has one reader');
  if (streaming && train.dataloaderWorkers > 1)
    refuse('dataloaderWorkers', 'must be at most 1 with `streaming`, which has one reader');
});

const EvaluateSchema = z.strictObject({
  /** Held-out rows that are scored, chosen by hash. */
  rows: z.int().min(1).max(100_000).default(200),
  /** `auto` = `json` when the references are JSON objects, `exact` when they are short, else `none`. */
  match: z.enum(['auto', 'exact', 'json', 'none']).default('auto'),
  /** null = the longest reference plus two tokens, at most 512. */
  maxNewTokens: z.int().min(1).max(4096).nullable().default(null),
  /** The untuned model's fair chance: examples from the training split in the prompt. */
  control: z
    .strictObject({
      shots: z.int().min(0).max(64).default(4),
      /** Key of a JSON reference: one example per value of it before a second. */
      stratifyBy: z.string().nullable().default(null),
    })
    .prefault({}),
  gate: z
    .strictObject({
      /** `auto` = `match` when the task has one and at least 30 rows are scored, else `loss`. */
      metric: z.enum(['auto', 'match', 'loss']).default('auto'),
      confidence: z.number().min(0.5).max(0.999).default(0.95),
      /**
       * Smallest gain that is worth a new version: a share of right answers (0.01 = one point of a hundred) or nats a token of loss.
       * The whole interval must lie above it.
       */
      minGain: z.number().min(0).max(10).default(0.01),
    })
    .prefault({}),
});

const SpecFieldsSchema = z.strictObject({
  name: NameSchema,
  model: z
    .strictObject({
      /** A model that the stack has (`anneal doctor` lists them), or a folder in Hugging Face layout. */
      base: z.string().min(1).max(1024).default('smollm2-135m'),
    })
    .prefault({}),
  data: DataSchema,
  train: RecipeSchema.prefault({}),
  evaluate: EvaluateSchema.prefault({}),
  register: z
    .strictObject({
      /** Name under which versions are numbered; null = the spec's name. */
      model: NameSchema.nullable().default(null),
    })
    .prefault({}),
  deploy: z
    .strictObject({
      /** Served name; null = the spec's name. */
      endpoint: NameSchema.nullable().default(null),
    })
    .prefault({}),
  /** The last stage to do. */
  until: z.enum(STAGES).default('deploy'),
});

export const SpecSchema = SpecFieldsSchema.superRefine(({ train, until }, context) => {
  const refuse = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
  if (train.method === 'dpo') refuse(['train', 'method'], 'must be `sft`: no source shape gives preference pairs yet');
  if (train.tuning === 'full' && until === 'deploy')
    refuse(['until'], 'must be `register` or earlier with `train.tuning: full`: the gateway serves adapters');
});
export type Spec = z.infer<typeof SpecSchema>;
/** What a user may leave out. */
export type SpecInput = z.input<typeof SpecSchema>;
export type Recipe = Spec['train'];

/**
 * Reads a spec from anything that a form, a file or a program may send. Without `data.sources` it is laid over the demo spec,
 * so that `{}` and nothing at all are the demo.
 * @throws AnnealError `bad_request` with every problem at once, each with its path.
 */
export function parseSpec(input: unknown): Spec {
  const one = Array.isArray(input) && input.length === 1 ? input[0] : input;
  const given = one ?? {};
  const merged = isPlainObject(given) && !hasSources(given) ? mergeDeep(DEMO_SPEC, given) : given;
  const parsed = SpecSchema.safeParse(merged);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.flatMap((issue) => describeIssue(issue, merged));
  const lines = problems.map((p) => `\`${p.path || 'spec'}\` ${p.message}`);
  throw new AnnealError(
    'bad_request',
    `The spec has ${problems.length === 1 ? 'one problem' : `${problems.length} problems`}: ${lines.join('; ')}.`,
    {
      problems,
    },
  );
}

function describeIssue(issue: z.core.$ZodIssue, input: unknown): Problem[] {
  const path = issue.path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i ? '.' : ''}${String(part)}`))
    .join('');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const known = knownKeys(issue.path);
      const near = nearest(key, known);
      return {
        path: path ? `${path}.${key}` : key,
        message: near ? `is not a field; did you mean \`${near}\`?` : `is not a field; known are ${known.join(', ')}`,
      };
    });
  }
  const found = issue.path.reduce<unknown>(
    (value, part) => (value as Record<PropertyKey, unknown> | undefined)?.[part],
    input,
  );
  const shown = found === undefined ? 'nothing' : JSON.stringify(found)?.slice(0, 80);
  return [
    {
      path,
      message: `${issue.message.replace(/^Invalid input: /, '').replace(/^Too (small|big): /, '')}, got ${shown}`,
    },
  ];
}

function knownKeys(path: PropertyKey[]): string[] {
  let schema: unknown = SpecSchema;
  const inner = (s: unknown): unknown => {
    const def = (s as { def?: { innerType?: unknown } }).def;
    return def?.innerType ? inner(def.innerType) : s;
  };
  for (const part of path) {
    const here = inner(schema) as { shape?: Record<PropertyKey, unknown>; element?: unknown };
    schema = typeof part === 'number' ? here.element : here.shape?.[part];
  }
  return Object.keys((inner(schema) as { shape?: object }).shape ?? {});
}

/** The candidate within an edit distance of a third of the word, or null. */
function nearest(word: string, candidates: string[]): string | null {
  const scored = candidates
    .map((c) => [editDistance(word.toLowerCase(), c.toLowerCase()), c] as const)
    .sort((a, b) => a[0] - b[0]);
  const best = scored[0];
  return best && best[0] <= Math.max(2, word.length / 3) ? best[1] : null;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1, substitute));
    }
    row = next;
  }
  return row[b.length] as number;
}

function hasSources(value: Record<string, unknown>): boolean {
  return isPlainObject(value.data) && value.data.sources !== undefined;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function mergeDeep(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const merged = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const below = merged[key];
    merged[key] = isPlainObject(below) && isPlainObject(value) ? mergeDeep(below, value) : value;
  }
  return merged;
}
