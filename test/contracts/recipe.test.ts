// What a user may choose of a recipe: defaults, and choices that do not go together, each refused with its path.
import { describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/contracts/failure.ts';
import { describeTuning } from '../../src/contracts/recipe-text.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import { ResolvedRecipeSchema } from '../../src/contracts/trainer-protocol.ts';

function problemsOf(train: object, until = 'train') {
  try {
    parseSpec({ name: 'recipe', data: { sources: [{ uri: 'rows.jsonl' }] }, train, until });
    return [];
  } catch (error) {
    if (!(error instanceof AnnealError)) throw error;
    return error.problems.map((p) => `${p.path} ${p.message}`);
  }
}

describe('recipe', () => {
  it('is what the trainer reads, with every field decided', () => {
    const { train } = parseSpec({ name: 'recipe', data: { sources: [{ uri: 'rows.jsonl' }] } });
    // Whether memory is measured first, and what a version is called, is not the trainer's business.
    const { probe: _probe, from: _from, ...decided } = { ...train, strategy: 'ddp' };
    expect(ResolvedRecipeSchema.parse(decided)).toEqual(decided);
    expect(train).toMatchObject({ method: 'sft', tuning: 'lora', packing: false, streaming: false, processes: 1 });
  });

  it.each([
    [{ tuning: 'full', packing: true, dataloaderWorkers: 2, tokenDropout: 0.1, processes: 2 }],
    [{ streaming: true, dataloaderWorkers: 1 }],
    [{ method: 'dpo', tuning: 'full' }],
    [{ method: 'kto', earlyStopping: { patience: 2, metric: 'evalAccuracy' }, kto: { undesirableWeight: 2 } }],
    [{ tuning: 'qlora', qlora: { bits: 8 }, outputs: ['best', 'merged-best'], lora: { rslora: true, dora: true } }],
    [{ lora: { experts: true } }],
    [{ schedule: 'warmup_stable_decay', minLearningRate: 1e-5, decayRatio: 0.1 }],
    [{ lora: { targets: 'all-linear' }, saveSteps: 'epoch', evalSteps: 'epoch', warmupSteps: 5 }],
  ])('takes %j', (train) => {
    expect(problemsOf(train)).toEqual([]);
  });

  it('refuses what the stages around the training cannot do yet', () => {
    expect(problemsOf({ tuning: 'full' }, 'deploy')).toEqual([
      'until must be `register` or earlier with `train.tuning: full`: the gateway serves adapters, got "deploy"',
    ]);
    expect(problemsOf({ lora: { experts: true } }, 'deploy')).toEqual([
      expect.stringContaining('until must be `register` or earlier with `train.lora.experts: true`'),
    ]);
  });

  it.each([
    [
      { schedule: 'linear', minLearningRate: 1e-5 },
      'train.minLearningRate must be 0 with `schedule: linear`; cosine, polynomial, warmup_stable_decay have one, got 0.00001',
    ],
    [
      { schedule: 'cosine', learningRate: 1e-5, minLearningRate: 1e-4 },
      'train.minLearningRate must be below `learningRate`, got 0.0001',
    ],
    [
      { method: 'kto', microBatch: 1 },
      'train.microBatch must be at least 2 with `method: kto`, which compares each answer with another row’s, got 1',
    ],
    [
      { earlyStopping: { patience: 2, metric: 'evalAccuracy' } },
      'train.earlyStopping must have the metric `evalLoss` with `method: sft`, which has no accuracy, got {"patience":2,"metric":"evalAccuracy"}',
    ],
    [
      { tuning: 'full', outputs: ['best', 'merged-best'] },
      'train.outputs must name nothing merged with `tuning: full`, whose model is whole, got ["best","merged-best"]',
    ],
    [
      { streaming: true, saveSteps: 'epoch' },
      'train.saveSteps must be a number with `streaming`, whose epochs do not end with a step, got "epoch"',
    ],
    [{ method: 'dpo', packing: true }, 'train.packing must be false with `method: dpo`, got true'],
    [{ method: 'dpo', streaming: true }, 'train.streaming must be false with `method: dpo`, got true'],
    [
      { streaming: true, packing: true },
      'train.packing must be false with `streaming`, which never sees all rows at once, got true',
    ],
    [{ streaming: true, processes: 2 }, 'train.processes must be 1 with `streaming`, which has one reader, got 2'],
    [
      { streaming: true, dataloaderWorkers: 2 },
      'train.dataloaderWorkers must be at most 1 with `streaming`, which has one reader, got 2',
    ],
  ])('refuses %j', (train, problem) => {
    expect(problemsOf(train)).toContain(problem);
  });

  it('refuses what asks for the best without a validation set', () => {
    const data = { sources: [{ uri: 'rows.jsonl' }], split: { validation: 0 } };
    const train = { outputs: ['best' as const], earlyStopping: { patience: 1 } };
    expect(() => parseSpec({ name: 'recipe', data, train })).toThrow(
      /2 problems: `train.outputs` must not name the best.*; `train.earlyStopping` must be null/,
    );
  });

  it('names every problem at once, and the field that was meant', () => {
    const problems = problemsOf({ method: 'kto', microBatch: 1, packing: true, tokenDropout: 0.1, streaming: true });
    expect(problems).toHaveLength(4);
    expect(problemsOf({ lora: { experts: true, dropout: 0.1, dora: true } })).toEqual([
      expect.stringContaining('train.lora.dropout must be off with `experts: true`'),
      expect.stringContaining('train.lora.dora must be off with `experts: true`'),
    ]);
    expect(problemsOf({ procesess: 2 })).toEqual(['train.procesess is not a field; did you mean `processes`?']);
    expect(problemsOf({ tokenDropout: 2 })[0]).toContain('train.tokenDropout');
  });
});

it.each([
  [{}, 'LoRA r16'],
  [{ tuning: 'qlora', qlora: { bits: 8 }, method: 'kto' }, 'kto, QLoRA r16 on 8 bits'],
  [{ tuning: 'full', method: 'dpo' }, 'dpo, all weights'],
])('%j is told as %j', (train, told) => {
  const spec = parseSpec({ name: 'recipe', data: { sources: [{ uri: 'rows.jsonl' }] }, train, until: 'train' });
  expect(describeTuning(spec.train)).toBe(told);
});
