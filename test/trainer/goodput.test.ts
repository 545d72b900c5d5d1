// Where the seconds of a run went.
import { describe, expect, test } from 'vitest';
import type { Goodput } from '../../src/contracts/records.ts';
import type { TrainerEvent } from '../../src/contracts/trainer-protocol.ts';
import { createGoodput, shareOf } from '../../src/trainer/goodput.ts';

const step = (n: number, seconds: number): TrainerEvent => ({
  ...{ ev: 'step', step: n, of: 9, epoch: 1, loss: 1, gradNorm: 1, learningRate: 1, tokens: n, seconds },
});
const saved = (n: number, seconds: number): TrainerEvent => ({
  ...{ ev: 'checkpoint_saved', step: n, path: '/p', bytes: 1, terminal: false, best: null, seconds },
});
const gpu = { ranks: 2, sinceMs: 0, secondsBefore: 0 };
const fresh = () => createGoodput({ carried: null, runStartedMs: 0, nowMs: 0, cause: 'start', gpu });
const sum = ({ productiveSeconds, lostSeconds }: Goodput) =>
  Object.values(lostSeconds).reduce((a, b) => a + b, productiveSeconds);

describe('goodput', () => {
  test('every second goes to one cause, and they add up to the wall time', () => {
    const ledger = fresh();
    ledger.begin('load', 1_000);
    ledger.observe(step(1, 2), 5_000);
    ledger.observe(step(2, 1), 6_500);
    ledger.observe(saved(2, 0.5), 7_000);
    ledger.observe({ ev: 'metrics', step: 2, evalLoss: 1 }, 9_000);
    ledger.begin('finish', 9_500);
    const cost = ledger.snapshot(10_000);
    expect(cost.productiveSeconds).toBeCloseTo(5);
    expect(cost.lostSeconds).toEqual({ start: 1, load: 2, wait: 1, checkpoint: 0.5, finish: 0.5 });
    expect(sum(cost)).toBeCloseTo(10);
    expect(shareOf(cost)).toBeCloseTo(0.5);
  });

  test('a recovery costs from the last event to the first new step; steps done again are lost too', () => {
    const ledger = fresh();
    ledger.observe(step(1, 1), 1_000);
    ledger.observe(step(2, 1), 2_000);
    ledger.recover('trainer_crashed', 3_000);
    ledger.begin('load', 3_000);
    ledger.observe(step(2, 1), 6_000);
    ledger.observe(step(3, 1), 7_000);
    const cost = ledger.snapshot(7_000);
    expect(cost.productiveSeconds).toBe(3);
    expect(cost.lostSeconds).toEqual({ 'recovery:trainer_crashed': 3, redone: 1 });
  });

  test('looking at it changes nothing', () => {
    const ledger = fresh();
    ledger.observe(step(1, 1), 1_000);
    for (let at = 1_100; at < 2_000; at += 100) ledger.snapshot(at);
    ledger.observe(step(2, 1), 2_000);
    expect(ledger.snapshot(2_000).productiveSeconds).toBe(2);
  });

  test('a taken-over run carries on what was counted, and the time between is the recovery', () => {
    const carried: Goodput = {
      startedMs: 0,
      atMs: 10_000,
      step: 5,
      productiveSeconds: 8,
      gpuSeconds: 0,
      lostSeconds: { load: 2 },
    };
    const ledger = createGoodput({ carried, runStartedMs: 0, nowMs: 40_000, cause: 'recovery:node_lost', gpu });
    ledger.begin('load', 41_000);
    ledger.observe(step(5, 1), 44_000);
    ledger.observe(step(6, 1), 45_000);
    const cost = ledger.snapshot(45_000);
    expect(cost.productiveSeconds).toBe(9);
    expect(cost.lostSeconds).toEqual({ load: 2, 'recovery:node_lost': 33, redone: 1 });
    expect(sum(cost)).toBeCloseTo(45);
  });

  test('a pause is no loss, and no GPU time', () => {
    const carried: Goodput = {
      ...{ startedMs: 0, atMs: 10_000, step: 5, productiveSeconds: 10, gpuSeconds: 20, lostSeconds: {} },
    };
    const since = { ranks: 2, sinceMs: 1_010_000, secondsBefore: 0 };
    const ledger = createGoodput({ carried, runStartedMs: 0, nowMs: 1_010_000, cause: 'paused', gpu: since });
    ledger.begin('load', 1_011_000);
    ledger.observe(step(6, 9), 1_020_000);
    const cost = ledger.snapshot(1_020_000);
    expect(cost.gpuSeconds).toBe(40);
    expect(cost.lostSeconds).toEqual({ paused: 1_000, start: 1 });
    expect(shareOf(cost)).toBeCloseTo(0.95);
  });

  test('what was seen of the GPU time beyond the last checkpoint counts', () => {
    const gpuOf = (secondsBefore: number) =>
      createGoodput({ carried: null, runStartedMs: 0, nowMs: 0, cause: 'start', gpu: { ...gpu, secondsBefore } });
    expect(gpuOf(7).snapshot(5_000).gpuSeconds).toBe(17);
  });

  test('a host whose clock is behind loses nothing twice', () => {
    const carried: Goodput = {
      startedMs: 0,
      atMs: 10_000,
      step: 5,
      productiveSeconds: 10,
      gpuSeconds: 0,
      lostSeconds: {},
    };
    const ledger = createGoodput({ carried, runStartedMs: 0, nowMs: 9_000, cause: 'recovery:node_lost', gpu });
    ledger.observe(step(6, 1), 11_000);
    expect(sum(ledger.snapshot(11_000))).toBeCloseTo(12);
  });
});
