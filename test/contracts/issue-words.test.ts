// What people read when a value does not fit: the field, what it must be, what it is.
import { expect, test } from 'vitest';
import { parseSpec } from '../../src/contracts/spec.ts';
import { parseSweep } from '../../src/contracts/sweep.ts';

const sound = { name: 'a', data: { sources: [{ uri: 'x.jsonl' }] } };

function refusalOf(parse: (input: unknown) => unknown, input: unknown): string {
  try {
    parse(input);
  } catch (error) {
    return (error as Error).message;
  }
  return 'accepted';
}

test.each<[object | string, string]>([
  [{ name: undefined }, '`name` must be text, and is missing.'],
  [{ model: 'tiny' }, '`model` must be an object with fields, got "tiny".'],
  [{ data: { sources: [] } }, '`data.sources` must have at least 1 entry, got [].'],
  [{ data: { sources: ['x.jsonl'] } }, '`data.sources[0]` must be an object with fields, got "x.jsonl".'],
  [{ train: { epochs: '3' } }, '`train.epochs` must be a number, got "3".'],
  [{ train: { epochs: -1 } }, '`train.epochs` must be more than 0, got -1.'],
  [{ train: { processes: 0 } }, '`train.processes` must be at least 1, got 0.'],
  [{ train: { lora: { rank: 0.5 } } }, '`train.lora.rank` must be a whole number, got 0.5.'],
  [{ train: { lora: { targets: 7 } } }, '`train.lora.targets` must be `auto`, `all-linear` or a list, got 7.'],
  [{ train: { packing: 'yes' } }, '`train.packing` must be true or false, got "yes".'],
  [{ train: { method: 'grpo' } }, '`train.method` must be `sft`, `dpo`, `kto` or `reward`, got "grpo".'],
  [{ train: { learnigRate: 1 } }, '`train.learnigRate` is not a field; did you mean `learningRate`?'],
  [{ queue: { priority: 9 } }, '`queue.priority` must be at most 5, got 9.'],
  ['text', '`spec` must be an object with fields, got "text".'],
])('spec with %j', (wrong, problem) => {
  const input = typeof wrong === 'string' ? wrong : { ...sound, ...wrong };
  expect(refusalOf(parseSpec, input)).toBe(`The spec has one problem: ${problem}`);
});

test.each<[object, string]>([
  [{ name: undefined }, '`name` must be text, and is missing.'],
  [{ trials: [1] }, '`trials[0]` must be an object with fields, got 1.'],
  [{ rungs: [0.5, 2] }, '`rungs[1]` must be at most 1, got 2.'],
])('sweep with %j', (wrong, problem) => {
  const input = { name: 's', spec: sound, trials: [{}], ...wrong };
  expect(refusalOf(parseSweep, input)).toBe(`The sweep has one problem: ${problem}`);
});
