// Limits of silence that a run teaches.
import { describe, expect, test } from 'vitest';
import type { TrainerEvent } from '../../src/contracts/trainer-protocol.ts';
import { createPhaseLimits, LIMIT_RULES } from '../../src/trainer/phase-limits.ts';

const phase = (name: 'load' | 'train' | 'evaluate' | 'save'): TrainerEvent => ({ ev: 'phase', phase: name });
const step = (n: number): TrainerEvent => ({
  ...{ ev: 'step', step: n, of: 100, epoch: 1, loss: 1, gradNorm: 1, learningRate: 1, tokens: n, seconds: 1 },
});
const { unseenMs, unseenForkMs, factor, slackMs } = LIMIT_RULES;

/** Limits after events at given times, ms. */
function limitsAfter(events: [number, TrainerEvent][], isFork = false) {
  const limits = createPhaseLimits();
  limits.began(0, isFork);
  for (const [at, event] of events) limits.observe(event, at);
  return limits;
}

describe('limits of progress', () => {
  test('before anything was seen they are generous, for a fork less so', () => {
    expect(limitsAfter([]).limitMs()).toBe(unseenMs.load);
    expect(limitsAfter([], true).limitMs()).toBe(unseenForkMs);
    expect(limitsAfter([[1_000, phase('train')]]).limitMs()).toBe(unseenMs.first_step);
  });

  test('what a phase says when it begins does not narrow its limit', () => {
    const plan = { steps: 9, rows: 9, trainableParameters: 1, totalParameters: 1, from: 0, source: 'fresh' } as const;
    const loading = limitsAfter([[8_000, phase('load')]]);
    expect(loading.limitMs()).toBe(unseenMs.load);
    loading.observe(phase('train'), 30_000);
    loading.observe({ ev: 'plan', ...plan }, 30_010);
    expect(loading.limitMs()).toBe(unseenMs.first_step);
  });

  test('a fork, which loads in no time, teaches nothing of a cold start', () => {
    const limits = limitsAfter([[100, phase('train')]], true);
    limits.began(1_000, true);
    expect(limits.limitMs()).toBe(factor * 100 + slackMs);
    limits.began(2_000, false);
    expect(limits.limitMs()).toBe(unseenMs.load);
  });

  test('steps are measured by the slowest one seen', () => {
    const limits = limitsAfter([
      [1_000, phase('train')],
      [3_000, step(1)],
      [3_500, step(2)],
      [4_300, step(3)],
      [4_400, step(4)],
    ]);
    expect(limits.limitMs()).toBeCloseTo(factor * 800 * 0.995 + slackMs, 0);
  });

  test('the first step, with its compilation, does not widen the limit of the others', () => {
    const limits = limitsAfter([
      [1_000, phase('train')],
      [601_000, step(1)],
      [601_100, step(2)],
    ]);
    expect(limits.limitMs()).toBe(factor * 100 + slackMs);
  });

  test('a slow evaluation is measured against evaluations', () => {
    const limits = limitsAfter([
      [0, phase('train')],
      [100, step(1)],
      [200, step(2)],
      [200, phase('evaluate')],
    ]);
    expect(limits.limitMs()).toBe(unseenMs.evaluate);
    limits.observe({ ev: 'metrics', step: 2, evalLoss: 1 }, 60_200);
    expect(limits.phase()).toBe('train');
    limits.observe(step(3), 60_250);
    limits.observe(phase('evaluate'), 60_300);
    expect(limits.limitMs()).toBe(factor * 60_000 + slackMs);
  });

  test('each stall doubles them until there is a step', () => {
    const limits = limitsAfter([
      [0, phase('train')],
      [100, step(1)],
      [200, step(2)],
    ]);
    const once = limits.limitMs();
    limits.stalled();
    limits.stalled();
    expect(limits.limitMs()).toBe(4 * once);
    limits.observe(step(3), 300);
    expect(limits.limitMs()).toBeLessThan(2 * once);
  });

  test('what is said twice in a step still says what is being done', () => {
    const limits = limitsAfter([
      [0, phase('train')],
      [100, step(1)],
      [150, phase('save')],
    ]);
    limits.observe(
      { ev: 'checkpoint_saved', step: 1, path: '/p', bytes: 1, terminal: true, best: null, seconds: 1 },
      200,
    );
    expect(limits.observe(phase('save'), 210)).toBe(false);
    expect(limits.phase()).toBe('save');
  });

  test('one slow step is forgotten', () => {
    const limits = limitsAfter([
      [0, phase('train')],
      [100, step(1)],
      [100_100, step(2)],
    ]);
    for (let i = 3; i < 2_000; i++) limits.observe(step(i), 100_000 + i * 100);
    expect(limits.limitMs()).toBeLessThan(factor * 1_000 + slackMs);
  });

  test.each([
    ['the same step', step(2)],
    ['an older step', step(1)],
    ['a phase that this step has had', phase('train')],
    ['a finding', { ev: 'finding', code: 'warm_state_off', message: '' }],
  ] as [string, TrainerEvent][])('%s is no progress', (_name, event) => {
    const limits = limitsAfter([
      [0, phase('train')],
      [100, step(1)],
      [200, step(2)],
      [201, phase('train')],
    ]);
    expect(limits.observe(event, 300)).toBe(false);
  });
});
