// The spec of a run: what a user writes in YAML or JSON. Every field has a default and a limit; `{}` is the demo.
import { z } from 'zod';
import { deadlineProblem } from './budget.ts';
import { columnProblems } from './column-map.ts';
import { CHAT_SHAPES, DataSchema, type Source } from './data-spec.ts';
import { DEMO_SPEC } from './demo-spec.ts';
import { AnnealError, type Problem } from './failure.ts';
import { HOSTS_MAX, PROCESSES_MAX } from './gang-size.ts';
import { pathOf, wordsWithValue } from './issue-words.ts';
import { STAGES } from './names.ts';
import { ROW_KINDS, type RowKind } from './rows.ts';
import { SCHEDULES } from './schedules.ts';
import { DeepSpeedSchema, PRECISIONS, STRATEGIES, strategyProblems } from './strategies.ts';
import { OUTPUTS } from './trainer-protocol.ts';

/** A name that is safe in object keys, workflow ids and URLs. */
export const NameSchema = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,62}$/,
    'must be 1 to 63 lower-case letters, digits or hyphens, and start with a letter or digit',
  );

/** `<model>@<number>` or `<model>@<alias>`. */
const VersionNameSchema = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,62}@[a-z0-9][a-z0-9-]{0,62}$/,
    'must be a version of a model, such as support@3 or support@champion',
  );

/** @param name that the schema has passed. */
export function partsOfVersionName(name: string): { model: string; which: string } {
  const [model = '', which = ''] = name.split('@');
  return { model, which };
}

const LoraSchema = z.strictObject({
  rank: z.int().min(1).max(512).default(16),
  alpha: z.number().gt(0).max(1024).default(32),
  /** Of the adapter's inputs, with `sft` only: the other methods compare answers, which dropout would part. */
  dropout: z.number().min(0).max(0.9).default(0),
  /**
   * `auto` = every attention and MLP projection of the model's family, `all-linear` = every linear layer but the output's; a list
   * holds the last parts of modules' names (at most 256, more than any model has).
   */
  targets: z.union([z.enum(['auto', 'all-linear']), z.array(z.string().min(1)).min(1).max(256)]).default('auto'),
  /** Scales the adapter by alpha / √rank, so that high ranks learn as fast as low ones (rsLoRA, arXiv 2312.03732). */
  rslora: z.boolean().default(false),
  /** Trains the weights' lengths apart from their directions (DoRA, arXiv 2402.09353): nearer to full tuning, and slower. */
  dora: z.boolean().default(false),
  /** Adapts a layer's experts, too, each with matrices of its own: `targets` alone leaves them as they are. */
  experts: z.boolean().default(false),
  /** Adapt this layer and those above it; 0 = all. Gradients stop below it, which saves time. */
  firstLayer: z.int().min(0).max(1000).default(0),
});

/** A number of steps, or the end of every epoch. */
const IntervalSchema = z.union([z.int().min(1).max(10_000_000), z.literal('epoch')]);

const TrainFieldsSchema = z.strictObject({
  /**
   * `sft` learns answers, `dpo` which of two answers is better, `kto` which answers are good and which are not, `reward` a model that
   * scores answers.
   */
  method: z.enum(['sft', 'dpo', 'kto', 'reward']).default('sft'),
  /** `lora` trains an adapter, `qlora` the same on a base model that is kept in fewer bits, `full` every weight of the model. */
  tuning: z.enum(['lora', 'qlora', 'full']).default('lora'),
  /**
   * The version that the training continues, as `<model>@<number>` or `<model>@<alias>`: its adapter goes on being trained, or with
   * `full` its weights; `dpo` and `kto` hold the model to it. Found once for each run, whatever the alias names later. null = the base
   * model.
   */
  from: VersionNameSchema.nullable().default(null),
  lora: LoraSchema.prefault({}),
  /** With `qlora`: 4 = NF4 with double quantisation, 8 = LLM.int8(). */
  qlora: z.strictObject({ bits: z.union([z.literal(4), z.literal(8)]).default(4) }).prefault({}),
  epochs: z.number().gt(0).max(1000).default(3),
  /** Ends earlier than the epochs would; null = by epochs. */
  maxSteps: z.int().min(1).max(10_000_000).nullable().default(null),
  /** Rows that go through the model at once. Effective batch = microBatch × accumulation × processes × hosts. */
  microBatch: z.int().min(1).max(1024).default(8),
  accumulation: z.int().min(1).max(1024).default(1),
  learningRate: z.number().gt(0).max(1).default(2e-4),
  /** `warmup_stable_decay` holds the rate and lets it fall over the last `decayRatio` of the steps; `inverse_sqrt` falls with the root of the step. */
  schedule: z.enum(SCHEDULES).default('linear'),
  /** Where the rate ends, with `cosine`, `polynomial` and `warmup_stable_decay`. */
  minLearningRate: z.number().min(0).max(1).default(0),
  /** Of `polynomial`; 1 = a line. */
  schedulePower: z.number().gt(0).max(10).default(1),
  /** Of `warmup_stable_decay`, share of the steps. */
  decayRatio: z.number().gt(0).max(1).default(0.2),
  /** Share of the steps in which the rate grows to `learningRate`. */
  warmupRatio: z.number().min(0).max(1).default(0.1),
  /** The same in steps; null = by `warmupRatio`. */
  warmupSteps: z.int().min(0).max(10_000_000).nullable().default(null),
  weightDecay: z.number().min(0).max(1).default(0),
  maxGradNorm: z.number().gt(0).max(1000).default(1),
  seed: z.int().min(0).max(4_294_967_295).default(0),
  /** A checkpoint every so many steps or every `epoch`; null = so often that saving costs about 1 % of the time, 10 s to 10 min apart. */
  saveSteps: IntervalSchema.nullable().default(null),
  /** Validation every so many steps or every `epoch`; null = four times per run. */
  evalSteps: IntervalSchema.nullable().default(null),
  /** Checkpoints kept on the host and in the store besides the best. */
  keep: z.int().min(1).max(100).default(5),
  /** Ends after so many validations without a gain above the threshold; the run is then for the best step's weights. */
  earlyStopping: z
    .strictObject({
      patience: z.int().min(1).max(1000),
      threshold: z.number().min(0).default(0),
      /** `evalAccuracy` is the share of answers or pairs that are told right; `sft` has none. */
      metric: z.enum(['evalLoss', 'evalAccuracy']).default('evalLoss'),
    })
    .nullable()
    .default(null),
  /** Kept besides what the run is for: the best or last weights, and each merged with the base model into a whole model. */
  outputs: z.array(z.enum(OUTPUTS)).max(OUTPUTS.length).default([]),
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
  /** Ranks on each host that train together, each with its own micro-batches. */
  processes: z.int().min(1).max(PROCESSES_MAX).default(1),
  /** Hosts that train together, each with `processes` ranks; more than one are granted by the pool (`anneal pool`). */
  hosts: z.int().min(1).max(HOSTS_MAX).default(1),
  /** How strongly `dpo` holds the model to what it was. */
  dpoBeta: z.number().gt(0).max(10).default(0.1),
  kto: z
    .strictObject({
      /** How strongly `kto` holds the model to what it was. */
      beta: z.number().gt(0).max(10).default(0.1),
      /** What good and bad answers count; weights that even out unequal numbers are advised (arXiv 2402.01306, equation 8). */
      desirableWeight: z.number().gt(0).max(100).default(1),
      undesirableWeight: z.number().gt(0).max(100).default(1),
    })
    .prefault({}),
  /** `cpu` also where the host has GPUs; `auto` = one GPU for each rank where it has any. */
  device: z.enum(['auto', 'cpu']).default('auto'),
  /** Keeps one activation a layer and computes the others again on the way back: half the memory or less, a tenth more time. Always with `qlora`. */
  gradientCheckpointing: z.boolean().default(false),
  /** `adamw8bit` keeps AdamW's moments in 8 bits (bitsandbytes): a quarter of their memory, slightly other numbers. */
  optimizer: z.enum(['adamw', 'adamw8bit']).default('adamw'),
  /**
   * How ranks share a training: each has everything (`ddp`) or a part of it (`fsdp`, `deepspeed`). `auto` = `ddp` while model and
   * optimizer fit a GPU, else `fsdp`.
   */
  strategy: z.enum(STRATEGIES).default('auto'),
  /** With `deepspeed`: ZeRO stage 2 (gradients and optimizer in parts) or 3 (the model, too), or a DeepSpeed configuration of your own. */
  deepspeed: DeepSpeedSchema.default('zero2'),
  /** With a preset of `deepspeed`: `cpu` keeps the optimizer (and with `zero3` the model) in the host's memory. */
  offload: z.enum(['none', 'cpu']).default('none'),
  /** What is computed in; `auto` = bf16 on a GPU that has it, else fp16, and fp32 on a CPU. */
  precision: z.enum(PRECISIONS).default('auto'),
  /** Measures the memory by short steps before the training: `auto` where arithmetic says that it may become tight. */
  probe: z.enum(['auto', 'off']).default('auto'),
});

/** Each answer is compared with another row's of its micro-batch. */
export const KTO_MICRO_BATCH_MIN = 2;

/** The others end at 0, or nowhere. */
const SCHEDULES_WITH_MINIMUM: string[] = ['cosine', 'polynomial', 'warmup_stable_decay'];

/** What decides a training's bytes besides model and data. */
export const RecipeSchema = TrainFieldsSchema.superRefine((train, context) => {
  const refuse = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
  const { method, streaming } = train;
  if (method !== 'sft' && train.packing) refuse('packing', `must be false with \`method: ${method}\``);
  if (method !== 'sft' && streaming) refuse('streaming', `must be false with \`method: ${method}\``);
  if (method === 'sft' && train.earlyStopping?.metric === 'evalAccuracy')
    refuse('earlyStopping', 'must have the metric `evalLoss` with `method: sft`, which has no accuracy');
  if (train.minLearningRate > 0 && !SCHEDULES_WITH_MINIMUM.includes(train.schedule))
    refuse(
      'minLearningRate',
      `must be 0 with \`schedule: ${train.schedule}\`; ${SCHEDULES_WITH_MINIMUM.join(', ')} have one`,
    );
  if (train.minLearningRate >= train.learningRate) refuse('minLearningRate', 'must be below `learningRate`');
  // PEFT adds an adapter to an expert's weights, not beside them.
  for (const [field, holds] of [
    ['dropout', train.lora.dropout > 0],
    ['dora', train.lora.dora],
  ] as const)
    if (train.lora.experts && holds)
      context.addIssue({ code: 'custom', path: ['lora', field], message: 'must be off with `experts: true`' });
  if (method === 'kto' && train.microBatch < KTO_MICRO_BATCH_MIN)
    refuse('microBatch', 'must be at least 2 with `method: kto`, which compares each answer with another row’s');
  if (train.tuning === 'full' && train.outputs.some((name) => name.startsWith('merged-')))
    refuse('outputs', 'must name nothing merged with `tuning: full`, whose model is whole');
  for (const field of ['saveSteps', 'evalSteps'] as const)
    if (streaming && train[field] === 'epoch')
      refuse(field, 'must be a number with `streaming`, whose epochs do not end with a step');
  for (const { path, message } of strategyProblems(train)) context.addIssue({ code: 'custom', path, message });
  if (streaming && train.packing)
    refuse('packing', 'must be false with `streaming`, which never sees all rows at once');
  if (streaming && train.processes > 1) refuse('processes', 'must be 1 with `streaming`, which has one reader');
  if (streaming && train.hosts > 1) refuse('hosts', 'must be 1 with `streaming`, which has one reader');
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
      /**
       * `auto` = `match` when the task has one and at least 30 rows are scored, else `loss`. With the methods `dpo`, `kto` and `reward`
       * it is `preference`: the share of held-out rows on which the better answer gets the higher reward.
       */
      metric: z.enum(['auto', 'match', 'loss', 'preference']).default('auto'),
      /**
       * What must be surpassed: `untuned` = the untuned model, with examples in its prompt where that is better; `parent` = the version
       * that `train.from` names. With `dpo` and `kto` preferences are always measured from where the training started.
       */
      against: z.enum(['untuned', 'parent']).default('untuned'),
      confidence: z.number().min(0.5).max(0.999).default(0.95),
      /**
       * Smallest gain that is worth a new version: a share of right answers or preferences (0.01 = one point of a hundred) or nats a token
       * of loss.
       * The whole interval must lie above it.
       */
      minGain: z.number().min(0).max(10).default(0.01),
    })
    .prefault({}),
});

/** What a training may use before it is paused with a checkpoint and asks. It does not decide the result, so it is no part of a run's id. */
export const BudgetSchema = z.strictObject({
  /** Hours of one GPU, over all attempts; each rank counts, on CPUs too. */
  gpuHours: z.number().gt(0).max(10_000_000).nullable().default(null),
  /** Of those hours at `pricePerGpuHour`; null = as the price table of the GPU worker says (`ANNEAL_PRICES`). */
  costUsd: z.number().gt(0).max(1e9).nullable().default(null),
  pricePerGpuHour: z.number().gt(0).max(10_000).nullable().default(null),
  /** A time such as `2027-01-31T18:00:00Z`, or a duration from the workflow's start such as `90 min`, `8h` or `2d`. */
  deadline: z
    .string()
    .max(40)
    .nullable()
    .default(null)
    .superRefine((deadline, context) => {
      const message = deadlineProblem(deadline);
      if (message !== null) context.addIssue({ code: 'custom', message });
    }),
});

/** How the run's activities wait for workers: Temporal's own priority and fairness. No part of a run's id either. */
const QueueSchema = z.strictObject({
  /** Waiting runs of several teams take turns; null = shared by all that name none. */
  team: NameSchema.nullable().default(null),
  /** 1 goes before 2; null = 3. */
  priority: z.int().min(1).max(5).nullable().default(null),
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
  budget: BudgetSchema.prefault({}),
  queue: QueueSchema.prefault({}),
});

/** The source shapes that give the rows of each kind. */
const SHAPES: Record<RowKind, readonly Source['shape'][]> = {
  chat: ['auto', ...CHAT_SHAPES, 'preference'],
  pair: ['auto', 'preference'],
  judged: ['auto', 'kto'],
};

export const SpecSchema = SpecFieldsSchema.superRefine(({ data, train, evaluate, until }, context) => {
  const refuse = (path: PropertyKey[], message: string) => context.addIssue({ code: 'custom', path, message });
  const { method } = train;
  const kind = ROW_KINDS[method];
  const shapes = SHAPES[kind];
  for (const [i, { shape }] of data.sources.entries())
    if (!shapes.includes(shape))
      refuse(['data', 'sources', i, 'shape'], `must be ${shapes.join(' or ')} with \`train.method: ${method}\``);
  for (const { path, message } of columnProblems(data, kind)) refuse(['data', ...path], message);
  if (data.split.validation === 0 && train.outputs.some((name) => name.endsWith('best')))
    refuse(
      ['train', 'outputs'],
      'must not name the best with `data.split.validation: 0`, which leaves nothing to tell it by',
    );
  if (data.split.validation === 0 && train.earlyStopping !== null)
    refuse(['train', 'earlyStopping'], 'must be null with `data.split.validation: 0`, which leaves nothing to stop by');
  const { metric, against } = evaluate.gate;
  if (against === 'parent' && (train.from === null || method === 'reward'))
    refuse(
      ['evaluate', 'gate', 'against'],
      method === 'reward'
        ? 'must be untuned with `train.method: reward`, whose scores have no common measure'
        : 'must be untuned where `train.from` names no version',
    );
  if (kind === 'chat' && metric === 'preference')
    refuse(['evaluate', 'gate', 'metric'], 'must be auto, match or loss with `train.method: sft`');
  if (metric === 'match' && data.sources.some(({ shape, columns }) => shape === 'text' || columns?.text !== undefined))
    refuse(['evaluate', 'gate', 'metric'], 'must be auto or loss with sources of text, which have no answers');
  if (kind !== 'chat' && metric === 'match')
    refuse(['evaluate', 'gate', 'metric'], `must be auto, preference or loss with \`train.method: ${method}\``);
  if (method === 'reward' && until === 'deploy')
    refuse(
      ['until'],
      'must be `register` or earlier with `train.method: reward`: the gateway serves models that write',
    );
  if (train.tuning === 'full' && until === 'deploy')
    refuse(['until'], 'must be `register` or earlier with `train.tuning: full`: the gateway serves adapters');
  if (train.tuning !== 'full' && train.lora.experts && until === 'deploy')
    refuse(
      ['until'],
      'must be `register` or earlier with `train.lora.experts: true`: the gateway serves adapters side by side, which these do not go with',
    );
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
    `The spec has ${problems.length === 1 ? 'one problem' : `${problems.length} problems`}: ${lines.join('; ')}.`.replace(
      /\?\.$/,
      '?',
    ),
    {
      problems,
    },
  );
}

function describeIssue(issue: z.core.$ZodIssue, input: unknown): Problem[] {
  const path = pathOf(issue.path);
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
  return [{ path, message: wordsWithValue(issue, input) }];
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
  const found = inner(schema) as { shape?: object; def?: { keyType?: { options?: string[] } } };
  return found.def?.keyType?.options ?? Object.keys(found.shape ?? {});
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
