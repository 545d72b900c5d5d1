// What a spec may ask of preferences: shapes that fit the method, a metric that it has, an end that can be reached.
import { expect, test } from 'vitest';
import { parseSpec } from '../../src/contracts/spec.ts';

const spec = (method: string, more: { shape?: string; metric?: string; until?: string } = {}) => ({
  name: 'test',
  data: { sources: [{ uri: 'x', shape: more.shape ?? 'auto' }] },
  train: { method },
  evaluate: { gate: { metric: more.metric ?? 'auto' } },
  until: more.until ?? 'register',
});

test.each([
  ['dpo', { shape: 'preference', until: 'deploy' }],
  ['reward', { metric: 'preference' }],
  ['reward', { metric: 'loss' }],
  ['kto', { shape: 'kto', metric: 'preference', until: 'deploy' }],
  ['sft', { shape: 'preference', metric: 'match' }],
])('%s may have %j', (method, more) => {
  expect(parseSpec(spec(method, more)).train.method).toBe(method);
});

test.each([
  [
    'dpo',
    { shape: 'messages' },
    '`data.sources[0].shape` must be auto or preference with `train.method: dpo`, got "messages"',
  ],
  ['reward', { shape: 'kto' }, '`data.sources[0].shape` must be auto or preference with `train.method: reward`'],
  ['kto', { shape: 'preference' }, '`data.sources[0].shape` must be auto or kto with `train.method: kto`'],
  ['sft', { shape: 'kto' }, '`data.sources[0].shape` must be auto or messages or'],
  ['sft', { metric: 'preference' }, '`evaluate.gate.metric` must be auto, match or loss with `train.method: sft`'],
  ['dpo', { metric: 'match' }, '`evaluate.gate.metric` must be auto, preference or loss with `train.method: dpo`'],
  ['reward', { until: 'deploy' }, '`until` must be `register` or earlier with `train.method: reward`'],
])('%s with %j is refused', (method, more, says) => {
  expect(() => parseSpec(spec(method, more))).toThrow(says);
});
