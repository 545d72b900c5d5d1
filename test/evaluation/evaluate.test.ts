// What the evaluation of chats says of predictions that are made by hand: what the candidate is compared with.
import { expect, test } from 'vitest';
import { EvaluationSchema } from '../../src/contracts/records.ts';
import type { Row } from '../../src/contracts/rows.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import { summarise } from '../../src/evaluation/evaluate.ts';

const ROWS: Row[] = Array.from({ length: 40 }, (_, i) => ({
  id: `row-${i}`,
  group: `group-${i}`,
  src: { source: 0, line: i + 1 },
  messages: [
    { role: 'user', content: `${i}?` },
    { role: 'assistant', content: 'yes' },
  ],
}));

/** Losses of the variants; those of the rows differ a little. */
function evaluate(losses: Record<string, number>, against: 'untuned' | 'parent', parent: string | null) {
  const { evaluate: spec } = parseSpec({ name: 'a', train: { from: 'a@3' }, evaluate: { gate: { against } } });
  const predictions = Object.entries(losses).flatMap(([variant, loss]) =>
    ROWS.map(({ id }, i) => ({ variant, id, output: null, loss: loss + (i % 5) / 100, tokens: 3 })),
  );
  const stored = { digest: '0'.repeat(64), files: [] };
  const evaluation = summarise({ spec, rows: ROWS, shots: 0, matchKind: 'none', predictions, stored, parent });
  expect(EvaluationSchema.parse(JSON.parse(JSON.stringify(evaluation)))).toEqual(evaluation);
  return evaluation;
}

test('a version that is continued is compared with, and decides where the gate is against it', () => {
  const worse = { base: 3, parent: 1, candidate: 2 };
  expect(evaluate(worse, 'untuned', 'a@3')).toMatchObject({
    gate: { verdict: 'pass', against: 'the untuned model' },
    parent: { name: 'a@3', comparison: { verdict: 'fail', against: 'a@3' } },
  });
  expect(evaluate(worse, 'parent', 'a@3')).toMatchObject({
    gate: { verdict: 'fail', against: 'a@3' },
    parent: { name: 'a@3' },
  });
  expect(evaluate({ base: 3, parent: 2, candidate: 1 }, 'parent', 'a@3').gate.verdict).toBe('pass');
  expect(evaluate({ base: 3, candidate: 2 }, 'untuned', null)).toMatchObject({
    gate: { against: 'the untuned model' },
    parent: null,
  });
});

test.each([
  [{}, 'must be untuned where `train.from` names no version'],
  [{ from: 'a@3', method: 'reward' }, 'must be untuned with `train.method: reward`'],
])('a gate against a version that is not there is refused: %j', (train, message) => {
  const data = { sources: [{ uri: 'file:///rows.jsonl' }] };
  expect(() =>
    parseSpec({ name: 'a', data, until: 'register', train, evaluate: { gate: { against: 'parent' } } }),
  ).toThrow(message);
});
