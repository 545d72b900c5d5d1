// Which strategy `auto` is, and which sentence says why.
import { describe, expect, test } from 'vitest';
import { RecipeSchema } from '../../src/contracts/spec.ts';
import { chooseStrategy, type StrategyFacts, strategyOf } from '../../src/trainer/strategy.ts';

const GIB = 2 ** 30;
const FULL_1B: StrategyFacts = {
  ...{ parameters: 1e9, trainable: 1e9, tuning: 'full', precision: 'auto', processes: 4, gpuMemoryBytes: 80 * GIB },
};
const LORA_70B: StrategyFacts = { ...FULL_1B, parameters: 70e9, trainable: 2e8, tuning: 'lora' };

describe('auto', () => {
  test.each<[string, StrategyFacts, string, RegExp]>([
    ['one process', { ...FULL_1B, processes: 1 }, 'none', /one process/],
    ['no GPU', { ...FULL_1B, gpuMemoryBytes: null }, 'ddp', /Without a known GPU/],
    [
      '1B, full, 80 GiB',
      FULL_1B,
      'ddp',
      /take 20\.5 GiB whole, and 70 % of a GPU are 56\.0 GiB: each process keeps all/,
    ],
    ['1B, full, 24 GiB', { ...FULL_1B, gpuMemoryBytes: 24 * GIB }, 'fsdp', /each process keeps a part/],
    ['8B, full, 80 GiB', { ...FULL_1B, parameters: 8e9, trainable: 8e9 }, 'fsdp', /163\.9 GiB/],
    ['8B, LoRA, 80 GiB', { ...LORA_70B, parameters: 8e9, trainable: 4e7 }, 'ddp', /all of it/],
    ['70B, LoRA, 80 GiB', LORA_70B, 'fsdp', /a part/],
    ['70B, QLoRA, 80 GiB', { ...LORA_70B, tuning: 'qlora' }, 'ddp', /cannot be shared/],
    [
      '8B, LoRA in fp32, 40 GiB',
      { ...LORA_70B, parameters: 8e9, precision: 'fp32', gpuMemoryBytes: 40 * GIB },
      'fsdp',
      /a part/,
    ],
  ])('%s', (_, facts, strategy, why) => {
    const chosen = chooseStrategy(facts);
    expect(chosen.strategy).toBe(strategy);
    expect(chosen.why).toMatch(why);
  });

  const facts = { parameters: 8e9, trainable: 8e9, gpuMemoryBytes: 80 * GIB };

  test('is never what the rest of the recipe refuses', () => {
    const whole = RecipeSchema.parse({ tuning: 'full', processes: 4, optimizer: 'adamw8bit' });
    expect(strategyOf(whole, facts)).toMatchObject({
      strategy: 'ddp',
      why: expect.stringContaining('`optimizer: adamw8bit`'),
    });
  });

  test('is a part on each rank of all hosts, too', () => {
    const whole = RecipeSchema.parse({ tuning: 'full', processes: 8, hosts: 8 });
    const large = { parameters: 70e9, trainable: 70e9, gpuMemoryBytes: 80 * GIB };
    expect(strategyOf(whole, large)).toMatchObject({ strategy: 'fsdp', why: expect.stringContaining('a part') });
  });

  test('gives way to what the spec says', () => {
    const said = RecipeSchema.parse({ processes: 4, strategy: 'deepspeed' });
    expect(strategyOf(said, facts)).toEqual({ strategy: 'deepspeed', why: 'The spec says so.' });
  });
});
