// What a recipe's strategy, precision and DeepSpeed configuration go together with. Pure; every refusal has its reason.
import { z } from 'zod';

export const STRATEGIES = ['auto', 'ddp', 'fsdp', 'deepspeed'] as const;
export const PRECISIONS = ['auto', 'bf16', 'fp16', 'fp32'] as const;

/** Of a user's own configuration as JSON, characters: what people write has a few thousand. */
const CONFIGURATION_LENGTH_MAX = 20_000;

export const DeepSpeedSchema = z.union([
  z.enum(['zero2', 'zero3']),
  z
    .record(z.string(), z.json())
    .refine(
      (value) => JSON.stringify(value).length <= CONFIGURATION_LENGTH_MAX,
      `must have at most ${CONFIGURATION_LENGTH_MAX} characters as JSON`,
    ),
]);

/** What is looked at of a recipe. */
export interface Combination {
  strategy: (typeof STRATEGIES)[number];
  deepspeed: z.infer<typeof DeepSpeedSchema>;
  offload: 'none' | 'cpu';
  precision: (typeof PRECISIONS)[number];
  tuning: string;
  optimizer: string;
  device: string;
  streaming: boolean;
  processes: number;
  hosts: number;
  microBatch: number;
  accumulation: number;
  maxGradNorm: number;
}

export interface StrategyProblem {
  path: string[];
  message: string;
}

export function strategyProblems(recipe: Combination): StrategyProblem[] {
  return [...sharingProblems(recipe), ...precisionProblems(recipe), ...deepspeedProblems(recipe)];
}

/** Why ranks cannot hold a part each. */
function sharingProblems(recipe: Combination): StrategyProblem[] {
  const { strategy, tuning } = recipe;
  if (strategy !== 'fsdp' && strategy !== 'deepspeed') return [];
  const reasons: [boolean, string][] = [
    [recipe.processes * recipe.hosts < 2, '`processes: 1` on one host: there is nobody to share with'],
    [recipe.streaming, '`streaming`, which has one reader'],
    [tuning === 'qlora', '`tuning: qlora`: quantised weights cannot be cut into parts'],
    [recipe.optimizer === 'adamw8bit', '`optimizer: adamw8bit`, whose blocks do not end where the parts do'],
  ];
  return reasons.flatMap(([holds, reason]) =>
    holds ? [{ path: ['strategy'], message: `must be \`auto\` or \`ddp\` with ${reason}` }] : [],
  );
}

function precisionProblems({ precision, strategy, tuning, device }: Combination): StrategyProblem[] {
  const reasons: [boolean, string][] = [
    [precision === 'fp16' && device === 'cpu', 'must not be `fp16` with `device: cpu`, which computes in fp32 or bf16'],
    [
      precision === 'fp16' && strategy === 'fsdp',
      'must not be `fp16` with `strategy: fsdp`, whose ranks would skip different steps',
    ],
    [
      precision !== 'auto' && tuning === 'qlora',
      'must be `auto` with `tuning: qlora`, whose kernels compute in what the device is best at',
    ],
  ];
  return reasons.flatMap(([holds, message]) => (holds ? [{ path: ['precision'], message }] : []));
}

function deepspeedProblems(recipe: Combination): StrategyProblem[] {
  const { strategy, deepspeed, offload } = recipe;
  if (strategy !== 'deepspeed') {
    return [
      ...(deepspeed === 'zero2' ? [] : [{ path: ['deepspeed'], message: 'needs `strategy: deepspeed`' }]),
      ...(offload === 'none' ? [] : [{ path: ['offload'], message: 'needs `strategy: deepspeed`' }]),
    ];
  }
  if (typeof deepspeed === 'string') return [];
  const problems = contradictions(recipe, deepspeed);
  if (offload === 'none') return problems;
  return [
    ...problems,
    { path: ['offload'], message: 'must be `none` with a `deepspeed` configuration, which says it itself' },
  ];
}

/** Sections that would do what the recipe decides, or change what is saved. */
const SECTIONS_REFUSED: Record<string, string> = {
  optimizer: '`learningRate`, `weightDecay` and `optimizer` decide',
  scheduler: '`schedule` and `warmupRatio` decide',
  amp: '`precision` decides',
  elasticity: '`processes` decides',
  data_efficiency: '`data` and `seed` decide what is read when',
  curriculum_learning: '`data` and `seed` decide what is read when',
  tensor_parallel: 'models are not cut that way here',
  compression_training: 'weights are trained as they are',
};

type Json = z.infer<ReturnType<typeof z.json>>;

function contradictions(recipe: Combination, configuration: Record<string, Json>): StrategyProblem[] {
  const { microBatch, accumulation, processes, hosts, maxGradNorm, precision } = recipe;
  const wanted: [string[], Json, string][] = [
    [['train_micro_batch_size_per_gpu'], microBatch, '`microBatch`'],
    [['gradient_accumulation_steps'], accumulation, '`accumulation`'],
    [
      ['train_batch_size'],
      microBatch * accumulation * processes * hosts,
      '`microBatch` × `accumulation` × `processes` × `hosts`',
    ],
    [['gradient_clipping'], maxGradNorm, '`maxGradNorm`'],
    [['bf16', 'enabled'], precision === 'bf16', '`precision`'],
    [['fp16', 'enabled'], precision === 'fp16', '`precision`'],
  ];
  const differing = wanted.flatMap(([path, value, source]) => {
    const given = valueAt(configuration, path);
    if (given === undefined || given === 'auto' || given === value) return [];
    return [{ path, message: `must be \`auto\` or ${JSON.stringify(value)} as ${source} says` }];
  });
  const refused = Object.entries(SECTIONS_REFUSED).flatMap(([name, why]) =>
    configuration[name] === undefined ? [] : [{ path: [name], message: `must be left out: ${why}` }],
  );
  return [...differing, ...refused, ...zeroProblems(configuration)].map(({ path, message }) => ({
    path: ['deepspeed', ...path],
    message,
  }));
}

function zeroProblems(configuration: Record<string, Json>): StrategyProblem[] {
  const zero = ['zero_optimization'];
  const stage = valueAt(configuration, [...zero, 'stage']);
  const onDisk = ['offload_optimizer', 'offload_param'].filter(
    (name) => valueAt(configuration, [...zero, name, 'device']) === 'nvme',
  );
  return [
    ...(stage === 2 || stage === 3
      ? []
      : [{ path: [...zero, 'stage'], message: 'must be 2 or 3; what they do less is `strategy: ddp`' }]),
    ...onDisk.map((name) => ({
      path: [...zero, name, 'device'],
      message: 'must be `cpu` or `none`: what lies on a disk is not saved',
    })),
  ];
}

function valueAt(value: Json, path: string[]): Json | undefined {
  return path.reduce<Json | undefined>(
    (found, name) => (typeof found === 'object' && found !== null && !Array.isArray(found) ? found[name] : undefined),
    value,
  );
}
