// The gate: which verdict a difference gets, and in which words.
import { describe, expect, test } from 'vitest';
import { decideGate, type PairedScore } from '../../src/evaluation/gate.ts';

const gate = { metric: 'auto', against: 'untuned', confidence: 0.95, minGain: 0.01 } as const;
const rows = (count: number, make: (i: number) => PairedScore) => Array.from({ length: count }, (_, i) => make(i));
const matched = (candidate: boolean | null, other: boolean | null): PairedScore => ({
  candidate: { correct: candidate, loss: 1 },
  other: { correct: other, loss: 2 },
});
const lost = (candidate: number, other: number): PairedScore => ({
  candidate: { correct: null, loss: candidate },
  other: { correct: null, loss: other },
});

describe('the gate', () => {
  test.each([
    ['many more right answers', rows(200, (i) => matched(i < 150, i < 10)), true, 'match', 'pass'],
    ['as many right answers', rows(200, (i) => matched(i % 2 === 0, i % 2 === 1)), true, 'match', 'inconclusive'],
    ['fewer right answers', rows(200, (i) => matched(i < 10, i < 150)), true, 'match', 'fail'],
    ['five more of forty', rows(40, (i) => matched(i < 5, false)), true, 'match', 'inconclusive'],
    [
      'one missing answer among many right ones',
      rows(200, (i) => matched(i === 7 ? null : true, false)),
      true,
      'match',
      'inconclusive',
    ],
    ['few rows are judged by loss', rows(6, (i) => lost(1 + i / 100, 2)), true, 'loss', 'pass'],
    ['a lower loss', rows(50, (i) => lost(1, 1.5 + (i % 7) / 10)), false, 'loss', 'pass'],
    ['a higher loss', rows(50, (i) => lost(1.5 + (i % 7) / 10, 1)), false, 'loss', 'fail'],
    [
      'a loss that is as often higher',
      rows(50, (i) => lost(1, 1 + (i % 2 ? 0.1 : -0.1))),
      false,
      'loss',
      'inconclusive',
    ],
    ['a sure gain that is too small to matter', rows(50, () => lost(1, 1.009)), false, 'loss', 'inconclusive'],
    [
      'twelve right answers more of a thousand',
      rows(1000, (i) => matched(i < 12, false)),
      true,
      'match',
      'inconclusive',
    ],
    ['a single row', rows(1, () => lost(1, 9)), false, 'loss', 'inconclusive'],
    ['a loss that is not a number', rows(50, (i) => lost(i === 3 ? Number.NaN : 1, 2)), false, 'loss', 'inconclusive'],
    ['no row at all', [], true, 'loss', 'inconclusive'],
  ] as const)('%s', (_name, scores, hasMatch, metric, verdict) => {
    expect(decideGate(gate, { against: 'the untuned model', rows: [...scores], hasMatch })).toMatchObject({
      metric,
      verdict,
    });
  });

  test('says which gain would have been enough, and takes another one from the spec', () => {
    const scores = { against: 'the untuned model', rows: rows(50, () => lost(1, 1.009)), hasMatch: false };
    expect(decideGate(gate, scores).reason).toMatch(
      /0\.0090 nats .+; to pass, it must surely lie above 0\.01 nats \(`evaluate\.gate\.minGain`\)\.$/,
    );
    expect(decideGate({ ...gate, minGain: 0.001 }, scores)).toMatchObject({ verdict: 'pass', minGain: 0.001 });
  });
});
