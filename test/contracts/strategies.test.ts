// What a recipe's strategy, precision and DeepSpeed configuration do not go together with, each with its reason.
import { describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/contracts/failure.ts';
import { parseSpec } from '../../src/contracts/spec.ts';

function problemsOf(train: object): string[] {
  try {
    parseSpec({ name: 'strategies', data: { sources: [{ uri: 'rows.jsonl' }] }, train, until: 'train' });
    return [];
  } catch (error) {
    if (!(error instanceof AnnealError)) throw error;
    return error.problems.map((p) => `${p.path} ${p.message}`);
  }
}

const SHARDED = { strategy: 'fsdp', processes: 2 };
const ZERO = { strategy: 'deepspeed', processes: 2 };

describe('strategies', () => {
  it.each([
    [SHARDED],
    [{ ...SHARDED, tuning: 'full', precision: 'bf16', packing: true }],
    [{ ...SHARDED, method: 'dpo' }],
    [{ ...SHARDED, method: 'dpo', tuning: 'full' }],
    [{ ...SHARDED, method: 'reward' }],
    [{ ...ZERO, method: 'kto', tuning: 'full' }],
    [{ ...ZERO, method: 'reward' }],
    [{ ...ZERO, deepspeed: 'zero3', offload: 'cpu', precision: 'fp16' }],
    [{ strategy: 'ddp' }],
    [{ ...SHARDED, hosts: 8, processes: 8, tuning: 'full' }],
    [{ strategy: 'deepspeed', hosts: 2 }],
    [{ ...ZERO, hosts: 2, microBatch: 1, deepspeed: { train_batch_size: 4, zero_optimization: { stage: 3 } } }],
    [
      {
        ...ZERO,
        microBatch: 4,
        accumulation: 2,
        precision: 'bf16',
        deepspeed: {
          train_batch_size: 16,
          train_micro_batch_size_per_gpu: 4,
          gradient_accumulation_steps: 'auto',
          gradient_clipping: 1,
          bf16: { enabled: true },
          zero_optimization: { stage: 3, offload_optimizer: { device: 'cpu' } },
        },
      },
    ],
  ])('takes %j', (train) => {
    expect(problemsOf(train)).toEqual([]);
  });

  it.each([
    [{ strategy: 'fsdp' }, 'with `processes: 1` on one host: there is nobody to share with'],
    [{ ...SHARDED, hosts: 2, streaming: true }, 'with `streaming`, which has one reader'],
    [{ ...SHARDED, hosts: 2, tuning: 'qlora' }, 'quantised weights cannot be cut into parts'],
    [{ ...ZERO, hosts: 2, optimizer: 'adamw8bit' }, 'with `optimizer: adamw8bit`'],
    [{ ...SHARDED, streaming: true }, 'with `streaming`, which has one reader'],
    [{ ...SHARDED, tuning: 'qlora' }, 'quantised weights cannot be cut into parts'],
    [
      { ...ZERO, deepspeed: 'zero3', tuning: 'qlora', qlora: { bits: 8 } },
      'quantised weights cannot be cut into parts',
    ],
    [{ ...SHARDED, optimizer: 'adamw8bit' }, 'with `optimizer: adamw8bit`'],
    [{ ...SHARDED, precision: 'fp16' }, 'train.precision must not be `fp16` with `strategy: fsdp`'],
    [{ precision: 'fp16', device: 'cpu' }, 'train.precision must not be `fp16` with `device: cpu`'],
    [{ precision: 'bf16', tuning: 'qlora' }, 'train.precision must be `auto` with `tuning: qlora`'],
    [{ deepspeed: 'zero3' }, 'train.deepspeed needs `strategy: deepspeed`, got "zero3"'],
    [{ offload: 'cpu' }, 'train.offload needs `strategy: deepspeed`, got "cpu"'],
    [
      { ...ZERO, offload: 'cpu', deepspeed: { zero_optimization: { stage: 2 } } },
      'train.offload must be `none` with a `deepspeed` configuration',
    ],
  ])('refuses %j', (train, reason) => {
    expect(problemsOf(train)).toContainEqual(expect.stringContaining(reason));
  });

  it('names every contradiction of a DeepSpeed configuration at once', () => {
    const deepspeed = {
      train_batch_size: 64,
      train_micro_batch_size_per_gpu: 16,
      gradient_accumulation_steps: 3,
      gradient_clipping: 0.5,
      bf16: { enabled: true },
      fp16: { enabled: false },
      optimizer: { type: 'Lamb' },
      zero_optimization: { stage: 1, offload_param: { device: 'nvme' } },
    };
    expect(problemsOf({ ...ZERO, microBatch: 8, deepspeed })).toEqual([
      'train.deepspeed.train_micro_batch_size_per_gpu must be `auto` or 8 as `microBatch` says, got 16',
      'train.deepspeed.gradient_accumulation_steps must be `auto` or 1 as `accumulation` says, got 3',
      'train.deepspeed.train_batch_size must be `auto` or 16 as `microBatch` × `accumulation` × `processes` × `hosts` says, got 64',
      'train.deepspeed.gradient_clipping must be `auto` or 1 as `maxGradNorm` says, got 0.5',
      'train.deepspeed.bf16.enabled needs `precision: bf16`, got true',
      'train.deepspeed.optimizer.type must be `AdamW`, which is what trains here, got "Lamb"',
      'train.deepspeed.zero_optimization.stage must be 2 or 3; what they do less is `strategy: ddp`, got 1',
      'train.deepspeed.zero_optimization.offload_param.device must be `cpu` or `none`: what lies on a disk is not saved, got "nvme"',
    ]);
  });

  const precision = {
    fp16: {
      ...{ enabled: 'auto', loss_scale: 0, loss_scale_window: 1000, initial_scale_power: 16, hysteresis: 2 },
      min_loss_scale: 1,
    },
    bf16: { enabled: 'auto' },
  };
  const optimizer = {
    type: 'AdamW',
    params: { lr: 'auto', betas: 'auto', eps: 'auto', weight_decay: 'auto' },
  };
  const sizes = {
    ...{ gradient_accumulation_steps: 'auto', gradient_clipping: 'auto', train_batch_size: 'auto' },
    ...{ train_micro_batch_size_per_gpu: 'auto', steps_per_print: 2000, wall_clock_breakdown: false },
  };
  const zero3 = {
    ...{ stage: 3, overlap_comm: true, contiguous_gradients: true, sub_group_size: 1e9, reduce_bucket_size: 'auto' },
    ...{ offload_optimizer: { device: 'cpu', pin_memory: true }, offload_param: { device: 'cpu', pin_memory: true } },
    ...{ stage3_prefetch_bucket_size: 'auto', stage3_param_persistence_threshold: 'auto' },
    ...{ stage3_max_live_parameters: 1e9, stage3_max_reuse_distance: 1e9 },
    stage3_gather_16bit_weights_on_model_save: true,
  };
  const zero2 = {
    ...{ stage: 2, offload_optimizer: { device: 'cpu', pin_memory: true }, allgather_partitions: true },
    ...{ allgather_bucket_size: 2e8, overlap_comm: true, reduce_scatter: true, reduce_bucket_size: 2e8 },
    contiguous_gradients: true,
  };
  const documented = (more: object) => ({ ...precision, optimizer, ...sizes, ...more });

  it.each([
    ['ZeRO 2', documented({ zero_optimization: zero2, zero_allow_untested_optimizer: true })],
    ['ZeRO 3', documented({ zero_optimization: zero3 })],
    [
      'what is off',
      documented({ zero_optimization: zero3, flops_profiler: { enabled: false }, amp: { enabled: false } }),
    ],
    [
      'numbers that are the recipe’s',
      { zero_optimization: zero2, optimizer: { type: 'AdamW', params: { lr: 1e-4, betas: [0.9, 0.999], eps: 1e-8 } } },
    ],
  ])('takes a configuration as documentation has it: %s', (_what, deepspeed) => {
    expect(problemsOf({ ...ZERO, learningRate: 1e-4, deepspeed })).toEqual([]);
  });

  it.each([
    [{ scheduler: { type: 'WarmupLR', params: { warmup_min_lr: 'auto' } } }, 'scheduler must be left out: `schedule`'],
    [{ activation_checkpointing: { partition_activations: true } }, '`gradientCheckpointing: true` is what saves'],
    [{ flops_profiler: { enabled: true, profile_step: 1 } }, 'flops_profiler must be left out'],
    [
      { tensorboard: { enabled: true, output_path: 'logs' } },
      'tensorboard must be left out: steps and losses are events',
    ],
    [{ wandb: { enabled: true, project: 'p' } }, 'wandb must be left out'],
    [{ zero_force_ds_cpu_optimizer: true }, 'zero_force_ds_cpu_optimizer must be false'],
    [{ zero_optimisation: {} }, 'zero_optimisation is no setting of DeepSpeed 0.19'],
    [
      { optimizer: { type: 'AdamW', params: { lr: 3e-5 } } },
      'optimizer.params.lr must be `auto` or 0.0001, got 0.00003',
    ],
    [{ zero_optimization: { ...zero2, cpu_offload: true } }, 'DeepSpeed now says `offload_optimizer: { device: cpu }`'],
    [{ zero_optimization: { ...zero2, offload_param: { device: 'cpu' } } }, 'offload_param needs `stage: 3`'],
    [{ zero_optimization: { ...zero3, zero_quantized_weights: true } }, 'zero_quantized_weights must be left out'],
    [{ zero_optimization: { ...zero3, stage3_prefetch: 1 } }, 'stage3_prefetch is no setting of DeepSpeed 0.19'],
    [{ bf16: { enabled: true, bf16_master_weights_and_grads: true } }, 'small updates are lost in narrow weights'],
  ])('refuses %j', (more, reason) => {
    const problems = problemsOf({
      ...ZERO,
      learningRate: 1e-4,
      deepspeed: documented({ zero_optimization: zero3, ...more }),
    });
    expect(problems).toContainEqual(expect.stringContaining(reason));
  });
});
