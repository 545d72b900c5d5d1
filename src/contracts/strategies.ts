// What a recipe's strategy, precision and DeepSpeed configuration go together with. Pure; every refusal has its reason.
import { z } from 'zod';
import { configurationProblems, DeepSpeedConfigurationSchema } from './deepspeed.ts';

export const STRATEGIES = ['auto', 'ddp', 'fsdp', 'deepspeed'] as const;
export const PRECISIONS = ['auto', 'bf16', 'fp16', 'fp32'] as const;

export const DeepSpeedSchema = z.union([z.enum(['zero2', 'zero3']), DeepSpeedConfigurationSchema]);

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
  learningRate: number;
  weightDecay: number;
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
  const problems = configurationProblems(recipe, deepspeed).map(({ path, message }) => ({
    path: ['deepspeed', ...path],
    message,
  }));
  if (offload === 'none') return problems;
  return [
    ...problems,
    { path: ['offload'], message: 'must be `none` with a `deepspeed` configuration, which says it itself' },
  ];
}
