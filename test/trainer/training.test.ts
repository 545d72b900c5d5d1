// Attempts that hand over to each other, with fake trainers, a file store and no Temporal: what the next one finds and what it costs.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Training } from '../../src/contracts/records.ts';
import { committedSteps } from '../../src/storage/claim.ts';
import { readReceipts } from '../../src/storage/receipts.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import type { TrainingOptions } from '../../src/trainer/attempt.ts';
import { shareOf } from '../../src/trainer/goodput.ts';
import { LIMIT_RULES } from '../../src/trainer/phase-limits.ts';
import { StopRequest } from '../../src/trainer/stop-request.ts';
import { train } from '../../src/trainer/training.ts';
import { createWarmParent, type WarmParent } from '../../src/trainer/warm-parent.ts';
import { FAULT_STEPS, type FaultCase } from '../support/fake-trainers/corpus.ts';
import { fakePython, fakeTraining } from '../support/fake-trainers/run.ts';

const VENV = join(PROJECT_FOLDER, '.anneal', 'venv', 'bin', 'python');
const PYTHON = existsSync(VENV) ? VENV : 'python3';
/** It does no more, and saves nothing, however long it takes to kill it. */
const deafAt = (step: number) => ({ do: 'hang_deaf', at: 'step', step });

let folder: string;
let warmParent: WarmParent | null = null;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-attempts-'));
});
afterEach(async () => {
  await warmParent?.close();
  warmParent = null;
  rmSync(folder, { recursive: true, force: true });
});

async function given(fault: FaultCase['fault'], scheduled: number, more: Partial<TrainingOptions> = {}) {
  const python = fakePython({ name: '', fault, expect: { kinds: [], actions: [], ends: 'done' } }, PYTHON, folder);
  const options = await fakeTraining(folder, { fault: { name: '', expect: never }, python, warmParent });
  // One that waits for the test is not stalled.
  const drill = { ...options.drill, limits: LIMIT_RULES };
  return { ...options, drill, claimant: { ...options.claimant, attemptScheduledMs: scheduled }, ...more };
}
const never: FaultCase['expect'] = { kinds: [], actions: [], ends: 'done' };

/** Trains until this step is done, and what else is waited for has come, then is told to stop. */
async function trainUntil(
  options: TrainingOptions,
  step: number,
  request: StopRequest,
  more: () => Promise<unknown> = async () => undefined,
): Promise<unknown> {
  const stop = new AbortController();
  const onProgress: TrainingOptions['onProgress'] = (progress) => {
    if ((progress.step ?? 0) >= step)
      void more().then(
        () => stop.abort(request),
        (error) => stop.abort(error),
      );
  };
  return await train({ ...options, signal: stop.signal, onProgress }).catch((error: unknown) => error);
}

const preempt = new StopRequest('preempted', 'The host is needed elsewhere.', { graceMs: 10_000, isOver: false });
/** As good as the death of the worker: nothing is saved, nothing is said. */
const die = new StopRequest('preempted', 'Gone.', { graceMs: 0, isOver: true });

function plans(state: string): string[] {
  return readFileSync(join(state, 'gpu', 'runs', 'fault', 'events.ndjson'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { ev: string; source?: string; from?: number })
    .filter(({ ev }) => ev === 'plan')
    .map(({ source, from }) => `${source} ${from}`);
}

function expectWhole({ result, goodput }: Training): void {
  expect(result.step).toBe(FAULT_STEPS);
  const lost = Object.values(goodput.lostSeconds).reduce((sum, seconds) => sum + seconds, 0);
  expect(goodput.productiveSeconds + lost).toBeCloseTo((goodput.atMs - goodput.startedMs) / 1000, 1);
  expect(shareOf(goodput)).toBeGreaterThan(0);
}

describe('attempts of one run', () => {
  let undisturbed: string;
  beforeAll(async () => {
    const calm = mkdtempSync(join(tmpdir(), 'anneal-calm-'));
    const python = fakePython({ name: '', expect: never }, PYTHON, calm);
    const training = await train(
      await fakeTraining(calm, { fault: { name: '', expect: never }, python, warmParent: null }),
    );
    undisturbed = training.result.weightsSha256;
    expect(training.receipts).toEqual([]);
    rmSync(calm, { recursive: true, force: true });
  });

  test('a preempted one under a warm parent has all the time to save, and the next loses nothing', async () => {
    const slowSave = { do: 'sleep', seconds: 2.5, at: 'save', times: 1 };
    const options = await given([{ do: 'await_sigterm', at: 'step', step: 2 }, slowSave], 1, { sharedMemory: null });
    warmParent = createWarmParent(options.python, join(folder, 'parent'));
    expect(await trainUntil({ ...options, warmParent }, 1, preempt)).toBe(preempt);
    const elsewhere = join(folder, 'another-host');
    mkdirSync(elsewhere);
    // The warm parent's trainers have the fault, and would wait at step 2 where only step 1 was saved.
    const next = await train(await given([], 2, { state: elsewhere, warmParent: null }));
    expect(plans(elsewhere)[0]).toMatch(/^checkpoint [12]$/);
    expect(next.receipts.map(({ kind, action, lostSteps }) => [kind, action, lostSteps])).toEqual([
      ['preempted', 'taken_over', 0],
    ]);
    expect(next.result.weightsSha256).toBe(undisturbed);
    expectWhole(next);
  });

  test('after a death the next one on the same host goes on from warm state', async () => {
    await trainUntil(await given(deafAt(9), 1), 8, die);
    const options = await given([], 2);
    const next = await train(options);
    expect(plans(options.state)[1]).toMatch(/^warm [78]$/);
    expect(next.receipts.map(({ kind, action }) => [kind, action])).toEqual([['node_lost', 'taken_over']]);
    expect(next.result.weightsSha256).toBe(undisturbed);
    expectWhole(next);
  });

  test('after a death the next one on another host goes on from the store, and its receipt says what that cost', async () => {
    const first = await given(deafAt(9), 1);
    const committed = async () =>
      (await committedSteps(first.store, 'fault', { claim: 1, stepMax: Number.POSITIVE_INFINITY })).steps.length;
    await trainUntil(first, 8, die, () => expect.poll(committed).toBeGreaterThan(0));
    const elsewhere = join(folder, 'another-host');
    mkdirSync(elsewhere);
    const next = await train(await given([], 2, { state: elsewhere, stepBefore: 8 }));
    expect(plans(elsewhere)[0]).toMatch(/^checkpoint [36]$/);
    const [receipt] = next.receipts;
    expect(receipt).toMatchObject({ kind: 'node_lost', action: 'taken_over', claim: 2, atStep: 8 });
    expect(receipt?.lostSteps).toBe(8 - (receipt?.resumedFrom ?? 0));
    expect(receipt?.nextNewStepMs).toBeGreaterThan(0);
    // The steps before the death were done elsewhere.
    expect(next.curve?.steps.map(({ step }) => step)).toEqual(Array.from({ length: FAULT_STEPS }, (_, i) => i + 1));
    expect(next.result.weightsSha256).toBe(undisturbed);
  });

  test('receipts of a dead attempt are in the record of the one that gets done', async () => {
    const killOnce = { do: 'signal', name: 'SIGKILL', at: 'step', step: 4, times: 1 };
    const first = await given([killOnce, deafAt(10)], 1);
    await trainUntil(first, 9, die);
    await expect.poll(async () => (await readReceipts(first.store, 'fault')).length).toBe(1);
    const next = await train(await given([], 2));
    expect(next.receipts.map(({ claim, kind, action }) => [claim, kind, action])).toEqual([
      [1, 'trainer_crashed', 'restarted'],
      [2, 'node_lost', 'taken_over'],
    ]);
  });

  test('one that was taken over without knowing ends as fenced at its next commit, and disturbs nobody', async () => {
    const elsewhere = join(folder, 'another-host');
    mkdirSync(elsewhere);
    let startNext: () => void = () => undefined;
    const started = new Promise<void>((resolve) => {
      startNext = resolve;
    });
    const onProgress: TrainingOptions['onProgress'] = ({ step }) => {
      if (step === 2) startNext();
    };
    const taken = join(folder, 'taken-over');
    const waits = { do: 'await_file', file: taken, at: 'step', step: 4 };
    const zombie = train(await given(waits, 1, { onProgress })).catch((error: unknown) => error);
    await started;
    const onNextProgress = () => writeFileSync(taken, '');
    const next = await train(await given([], 2, { state: elsewhere, onProgress: onNextProgress }));
    expect(await zombie).toMatchObject({ kind: 'fenced' });
    expect(next.claim).toBe(2);
    expect(next.result.weightsSha256).toBe(undisturbed);
  });

  test('what the recipe names besides the adapter is stored, too', async () => {
    const options = await given(undefined, 1);
    const training = await train({ ...options, recipe: { ...options.recipe, outputs: ['merged-best', 'final'] } });
    expect(Object.keys(training.outputs)).toEqual(['merged-best', 'final']);
    expect(training.outputs.final).toEqual(training.adapter);
  });

  test('warm state is gone when the run is done', async () => {
    const options = await given([], 1);
    await train(options);
    const left = readdirSync(options.sharedMemory as string, { recursive: true, encoding: 'utf8' });
    expect(left.map((path) => basename(path))).toEqual([expect.stringContaining('anneal-')]);
  });
});
