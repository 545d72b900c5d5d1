// What a user may choose of a recipe: defaults, and choices that do not go together, each refused with its path.
import { describe, expect, it } from 'vitest';
import { AnnealError } from '../../src/contracts/failure.ts';
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
    expect(ResolvedRecipeSchema.parse(train)).toEqual(train);
    expect(train).toMatchObject({ method: 'sft', tuning: 'lora', packing: false, streaming: false, processes: 1 });
  });

  it.each([
    [{ tuning: 'full', packing: true, dataloaderWorkers: 2, tokenDropout: 0.1, processes: 2 }],
    [{ streaming: true, dataloaderWorkers: 1 }],
  ])('takes %j', (train) => {
    expect(problemsOf(train)).toEqual([]);
  });

  it('refuses what the stages around the training cannot do yet', () => {
    expect(problemsOf({ tuning: 'full' }, 'deploy')).toEqual([
      'until must be `register` or earlier with `train.tuning: full`: the gateway serves adapters, got "deploy"',
    ]);
    expect(problemsOf({ method: 'dpo' })).toEqual([
      'train.method must be `sft`: no source shape gives preference pairs yet, got "dpo"',
    ]);
  });

  it.each([
    [{ method: 'dpo', tuning: 'full' }, 'train.tuning must be `lora` with `method: dpo`, got "full"'],
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

  it('names every problem at once, and the field that was meant', () => {
    const problems = problemsOf({ method: 'dpo', tuning: 'full', packing: true });
    expect(problems).toHaveLength(3);
    expect(problemsOf({ procesess: 2 })).toEqual(['train.procesess is not a field; did you mean `processes`?']);
    expect(problemsOf({ tokenDropout: 2 })[0]).toContain('train.tokenDropout');
  });
});
