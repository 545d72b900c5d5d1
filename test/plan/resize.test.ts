// A training that goes on with fewer ranks: whether each has room for its part.
import { expect, test } from 'vitest';
import type { PoolHost } from '../../src/contracts/pool.ts';
import { resizeProblem } from '../../src/plan/resize.ts';
import { GIB, llama8b, recipeOf } from './given.ts';

const tokens = { rows: 100, tokens: 50_000, trainableTokens: 25_000, longest: 512 };
const hosts: PoolHost[] = ['a', 'b'].map((name) => ({
  ...{ name, bootId: 'b', labels: '', device: 'gpu', slots: 8 },
  memory: { memoryBytes: 512 * GIB, gpu: { name: 'H100', memoryBytes: 80 * GIB } },
}));
const train = { tuning: 'full', strategy: 'fsdp', processes: 8, microBatch: 1, gradientCheckpointing: true };
const facts = { shape: llama8b(), recipe: recipeOf(train), tokens, hosts };
const at = (processes: number, count = 1) => ({ hosts: count, processes });

test('of a model in parts one rank has no room for the whole, one of two has for a half', () => {
  expect(resizeProblem(facts, at(8), at(2))).toBeNull();
  expect(resizeProblem(facts, at(8), at(1, 4))).toBeNull();
  expect(resizeProblem(facts, at(8), at(1))).toMatch(
    /^1 host with 1 rank would need \d+ GiB for each rank \(by arithmetic\), and a GPU of host a has 80\.00 GiB; choose more hosts/,
  );
});

test('nothing is refused of which nothing is known, nor where arithmetic errs about the training as it is', () => {
  expect(resizeProblem({ ...facts, hosts: [] }, at(8), at(1))).toBeNull();
  expect(resizeProblem(facts, at(1), at(1))).toBeNull();
  expect(resizeProblem({ ...facts, recipe: recipeOf({ processes: 8, microBatch: 1 }) }, at(8), at(1))).toBeNull();
});
