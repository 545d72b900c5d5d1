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
      optimizer: { type: 'Adam' },
      zero_optimization: { stage: 1, offload_param: { device: 'nvme' } },
    };
    expect(problemsOf({ ...ZERO, microBatch: 8, deepspeed })).toEqual([
      'train.deepspeed.train_micro_batch_size_per_gpu must be `auto` or 8 as `microBatch` says, got 16',
      'train.deepspeed.gradient_accumulation_steps must be `auto` or 1 as `accumulation` says, got 3',
      'train.deepspeed.train_batch_size must be `auto` or 16 as `microBatch` × `accumulation` × `processes` × `hosts` says, got 64',
      'train.deepspeed.gradient_clipping must be `auto` or 1 as `maxGradNorm` says, got 0.5',
      'train.deepspeed.bf16.enabled must be `auto` or false as `precision` says, got true',
      'train.deepspeed.optimizer must be left out: `learningRate`, `weightDecay` and `optimizer` decide, got {"type":"Adam"}',
      'train.deepspeed.zero_optimization.stage must be 2 or 3; what they do less is `strategy: ddp`, got 1',
      'train.deepspeed.zero_optimization.offload_param.device must be `cpu` or `none`: what lies on a disk is not saved, got "nvme"',
    ]);
  });
});
