// What pretend stages answer, and what views are shown.
import type { Evaluation } from '../../src/contracts/records.ts';

export const ACCOUNTS = {
  rowsIn: 10,
  kept: 7,
  duplicates: 2,
  dropped: { invalid_json: 1 },
  splits: { train: 5, validation: 1, test: 1 },
  bySource: [],
};

export const EVALUATION: Omit<Evaluation, 'predictions'> = {
  rows: 200,
  rowsDigest: 'c'.repeat(64),
  matchKind: 'json',
  base: {
    name: 'base',
    shots: 0,
    match: { correct: 0, n: 200, low: 0, high: 0.019 },
    likelier: null,
    loss: 2.5,
    perplexity: 12.2,
  },
  control: {
    name: 'control',
    shots: 12,
    match: { correct: 7, n: 200, low: 0.017, high: 0.07 },
    likelier: null,
    loss: 1.5,
    perplexity: 4.5,
  },
  candidate: {
    name: 'candidate',
    shots: 0,
    match: { correct: 153, n: 200, low: 0.702, high: 0.818 },
    likelier: null,
    loss: 0.2,
    perplexity: 1.2,
  },
  rewards: null,
  parent: null,
  gate: {
    metric: 'match',
    against: 'the untuned model with 12 examples in its prompt',
    difference: 0.73,
    low: 0.665,
    high: 0.79,
    confidence: 0.95,
    minGain: 0.01,
    pValue: 1e-9,
    verdict: 'pass',
    reason: 'The interval lies above zero.',
  },
  examples: [
    {
      prompt: 'timer for 64-hour and 11 seconds',
      reference: '{"intent":"StartTimer","slots":{"hours":64,"seconds":11}}',
      before: 'The `time.sleep(64)` function\nis a built-in Python function',
      after: '{"intent": "StartTimer", "slots": {"hours": 64, "seconds": 11}}',
      correct: true,
    },
    { prompt: 'light up library', reference: '{}', before: null, after: '{"intent": "TurnOn"}', correct: false },
  ],
};
