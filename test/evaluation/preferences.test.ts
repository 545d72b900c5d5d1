// What the evaluation of preferences says of predictions that are made by hand: rewards, shares, the gate's verdict and its sentence.
import { describe, expect, test } from 'vitest';
import { EvaluationSchema } from '../../src/contracts/records.ts';
import type { JudgedRow, PairRow } from '../../src/contracts/rows.ts';
import { parseSpec, type Spec } from '../../src/contracts/spec.ts';
import type { Prediction } from '../../src/contracts/trainer-protocol.ts';
import { type PreferenceRow, type PreferencesScored, summarisePreferences } from '../../src/evaluation/preferences.ts';
import { meanProportionInterval, wilsonInterval } from '../../src/evaluation/statistics.ts';

const SPEC = parseSpec({}).evaluate;
/** Rows that both models answer. */
const ANSWERED = 6;

const origin = (i: number) => ({
  id: i.toString(16).padStart(32, '0'),
  group: '0'.repeat(16),
  src: { source: 0, line: i + 1 },
});
const prompt = (i: number) => [{ role: 'user' as const, content: `p${i}` }];
const assistant = (content: string) => ({ role: 'assistant' as const, content });
const pairRow = (i: number): PairRow => ({
  ...origin(i),
  prompt: prompt(i),
  chosen: assistant('good'),
  rejected: assistant('bad'),
});
const judgedRow = (i: number, label: boolean): JudgedRow => ({
  ...origin(i),
  prompt: prompt(i),
  completion: assistant('x'),
  label,
});

const answered = (id: string, text: string) => (Number.parseInt(id, 16) < ANSWERED ? text : null);

/** A base model that finds the chosen answer (4 tokens, loss 1) less likely than the rejected one (2 tokens, loss 1). */
const basePair = ({ id }: PreferenceRow): Prediction => ({
  variant: 'base',
  id,
  output: answered(id, 'before'),
  loss: 1,
  tokens: 4,
  rejected: { loss: 1, tokens: 2 },
});
/** One whose rewards are these: nats by which each answer became likelier. */
const tunedPair = ({ id }: PreferenceRow, chosen: number, rejected: number): Prediction => ({
  variant: 'candidate',
  id,
  output: answered(id, 'after'),
  loss: 1 - chosen / 4,
  tokens: 4,
  rejected: { loss: 1 - rejected / 2, tokens: 2 },
});
const judged = (variant: 'base' | 'candidate', { id }: PreferenceRow, gain: number): Prediction => ({
  variant,
  id,
  output: null,
  loss: 1 - gain / 3,
  tokens: 3,
});

const stored = { digest: '0'.repeat(64), files: [] };

function evaluate(
  method: PreferencesScored['method'],
  rows: PreferenceRow[],
  predictions: Prediction[],
  gate: Partial<Spec['evaluate']['gate']> = {},
) {
  const spec = { ...SPEC, gate: { ...SPEC.gate, ...gate } };
  const evaluation = summarisePreferences({ method, spec, rows, predictions, stored });
  // What is kept is what was said: JSON takes neither NaN nor infinity.
  expect(EvaluationSchema.parse(JSON.parse(JSON.stringify(evaluation)))).toEqual(evaluation);
  return evaluation;
}

const count = (n: number) => Array.from({ length: n }, (_, i) => i);

describe('dpo', () => {
  const pairs = (n: number) => count(n).map(pairRow);
  const evaluatePairs = (n: number, right: number, gate = {}) =>
    evaluate(
      'dpo',
      pairs(n),
      pairs(n).flatMap((row, i) => [basePair(row), i < right ? tunedPair(row, 2, -1) : tunedPair(row, -1, 1)]),
      gate,
    );

  test('an answer’s reward is how much likelier it became, as a whole; a pair is right when the chosen one has more', () => {
    const { base, candidate, rewards, gate, control, matchKind } = evaluatePairs(60, 50);
    expect(rewards).toMatchObject({
      right: { correct: 50, n: 60, ...wilsonInterval(50, 60, 0.95) },
      wanted: null,
      unwanted: null,
    });
    expect(rewards?.margin).toBeCloseTo((50 * 3 - 10 * 2) / 60, 9);
    // The untuned model finds the shorter answer likelier; the tuned one no longer where it has learned: −2 against −3.
    expect(base).toMatchObject({ likelier: { correct: 0, n: 60 }, loss: 1 });
    expect(candidate.likelier).toMatchObject({ correct: 50, n: 60 });
    expect(gate).toMatchObject({ metric: 'preference', against: 'the untuned model', verdict: 'pass' });
    expect(gate.difference).toBeCloseTo(50 / 60 - 0.5, 9);
    expect(gate.reason).toMatch(
      /^The tuned model leans to the chosen answer, more than the untuned one does, in 50 of 60 pairs: 33\.3 points above an even half \(22\.\d to 40\.\d\), sign test p = \S+; the least gain is 1\.0 points\.$/,
    );
    expect([control, matchKind]).toEqual([null, 'none']);
  });

  test.each([
    [60, 30, 'inconclusive'],
    [60, 36, 'inconclusive'],
    [60, 42, 'pass'],
    [60, 12, 'fail'],
    [5, 5, 'inconclusive'],
    [6, 6, 'pass'],
  ] as const)('of %i pairs %i right: %s', (n, right, verdict) => {
    expect(evaluatePairs(n, right).gate.verdict).toBe(verdict);
  });

  test('a gain that is sure and too small does not pass, and says what would', () => {
    const { gate } = evaluatePairs(60, 50, { minGain: 0.3 });
    expect(gate.verdict).toBe('inconclusive');
    expect(gate.reason).toMatch(/to pass, it must surely lie above 30\.0 points \(`evaluate\.gate\.minGain`\)\.$/);
  });

  test('a tie is not right, and a missing prediction is never a pass', () => {
    const rows = pairs(40);
    const ties = rows.flatMap((row) => [basePair(row), { ...basePair(row), variant: 'candidate' }]);
    expect(evaluate('dpo', rows, ties)).toMatchObject({
      rewards: { right: { correct: 0, n: 40 }, margin: 0 },
      gate: { verdict: 'inconclusive', pValue: 1 },
    });
    const gone = evaluate(
      'dpo',
      rows,
      rows.flatMap((row, i) => (i === 7 ? [basePair(row)] : [basePair(row), tunedPair(row, 1, 0)])),
    );
    expect(gone.gate).toMatchObject({
      verdict: 'inconclusive',
      reason: '1 answers have no result; a missing result is never a pass.',
    });
    expect(evaluate('dpo', [], []).gate).toMatchObject({
      verdict: 'inconclusive',
      reason: expect.stringMatching(/^No pair/),
    });
  });

  test('the loss of the chosen answers is gated when the spec says so', () => {
    expect(evaluatePairs(60, 60, { metric: 'loss' }).gate).toMatchObject({
      metric: 'loss',
      difference: 0.5,
      verdict: 'pass',
    });
    expect(evaluatePairs(60, 0, { metric: 'loss' }).gate).toMatchObject({ metric: 'loss', verdict: 'fail' });
  });

  test('people see what both models write', () => {
    const { examples } = evaluatePairs(10, 10);
    expect(examples).toHaveLength(ANSWERED);
    expect(examples[0]).toEqual({ prompt: 'p0', reference: 'good', before: 'before', after: 'after', correct: null });
  });
});

describe('kto', () => {
  /** The first `wanted` rows are wanted; each gains as `gain` says. */
  const evaluateAnswers = (wanted: number, unwanted: number, gain: (label: boolean, i: number) => number) => {
    const rows = count(wanted + unwanted).map((i) => judgedRow(i, i < wanted));
    return evaluate(
      'kto',
      rows,
      rows.flatMap((row, i) => [judged('base', row, 0), judged('candidate', row, gain(row.label, i))]),
    );
  };

  test('wanted answers must become likelier and unwanted ones less likely', () => {
    const { rewards, gate, base, candidate } = evaluateAnswers(30, 20, (label, i) => (label === i % 10 > 0 ? 1.5 : -3));
    expect(rewards).toMatchObject({
      wanted: { correct: 27, n: 30 },
      unwanted: { correct: 18, n: 20 },
      right: { correct: 45, n: 50 },
    });
    expect(gate).toMatchObject({ metric: 'preference', verdict: 'pass', pValue: null });
    expect(gate.difference).toBeCloseTo((27 / 30 + 18 / 20) / 2 - 0.5, 9);
    expect(gate.reason).toMatch(
      /^The tuned model finds 27 of 30 wanted answers likelier than the untuned one does, and 18 of 20 unwanted ones less likely: 40\.0 points above an even half \(.*\), both kinds counted alike; the least gain is 1\.0 points\.$/,
    );
    expect([base.likelier, candidate.likelier]).toEqual([null, null]);
    // Of wanted answers alone.
    expect(candidate.loss).toBeCloseTo(1 - (27 * 1.5 - 3 * 3) / 30 / 3, 9);
  });

  test('a model that makes every answer likelier has learned nothing, however many are wanted', () => {
    const { rewards, gate } = evaluateAnswers(90, 10, () => 1);
    expect(rewards?.right).toMatchObject({ correct: 90, n: 100 });
    expect(gate).toMatchObject({ difference: 0, verdict: 'inconclusive' });
  });

  test('held-out answers of one label decide nothing', () => {
    expect(evaluateAnswers(40, 0, () => 1)).toMatchObject({
      rewards: { unwanted: { n: 0 }, margin: null },
      gate: {
        verdict: 'inconclusive',
        reason: 'No held-out answer has the label false; hold out more with `data.split.test` or `evaluate.rows`.',
      },
    });
  });

  test('the interval is the one of Newcombe’s method', () => {
    // 9 of 10 and 3 of 10: 0.5 × (p + q), distances to Wilson's limits added by squares.
    const { mean, low, high } = meanProportionInterval({ right: 9, n: 10 }, { right: 3, n: 10 }, 0.95);
    expect(mean).toBeCloseTo(0.6, 12);
    // Wilson: 9 of 10 is 0.5958 to 0.9821, 3 of 10 is 0.1078 to 0.6032.
    expect(low).toBeCloseTo(0.6 - Math.hypot(0.9 - 0.5958, 0.3 - 0.1078) / 2, 3);
    expect(high).toBeCloseTo(0.6 + Math.hypot(0.9821 - 0.9, 0.6032 - 0.3) / 2, 3);
  });
});

describe('reward', () => {
  const evaluateRewards = (right: number, n: number, gate = {}) =>
    evaluate(
      'reward',
      count(n).map(pairRow),
      count(n).map((i) => {
        const margin = i < right ? 2 : -2;
        return {
          variant: 'candidate',
          id: pairRow(i).id,
          output: null,
          loss: Math.log1p(Math.exp(-margin)),
          tokens: 1,
          rewards: { chosen: margin, rejected: 0 },
        };
      }),
      gate,
    );

  test('the chosen answer must be given more, beyond what chance gives', () => {
    const { base, rewards, gate, examples } = evaluateRewards(50, 60);
    expect(rewards).toMatchObject({ right: { correct: 50, n: 60 } });
    expect(rewards?.margin).toBeCloseTo((50 * 2 - 10 * 2) / 60, 9);
    expect(base).toMatchObject({ name: 'chance', loss: Math.LN2, perplexity: 2 });
    expect(gate).toMatchObject({ metric: 'preference', against: 'chance', verdict: 'pass' });
    expect(gate.reason).toMatch(/^The reward model gives the chosen answer more in 50 of 60 pairs: 33\.3 points above/);
    expect(examples).toEqual([]);
    expect(evaluateRewards(10, 60).gate.verdict).toBe('fail');
  });

  test('its loss is compared with that of a model that knows nothing', () => {
    expect(evaluateRewards(60, 60, { metric: 'loss' }).gate).toMatchObject({ metric: 'loss', verdict: 'pass' });
    expect(evaluateRewards(0, 60, { metric: 'loss' }).gate).toMatchObject({ metric: 'loss', verdict: 'fail' });
  });
});
