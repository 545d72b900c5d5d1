// A run that goes on where there are GPUs for fewer processes: real ranks on CPUs, a real store, two attempts.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { locateLocal } from '../../src/cli/drill/local.ts';
import { RecipeSchema, type SpecInput } from '../../src/contracts/spec.ts';
import { putFolder } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { openBaseModel } from '../../src/trainer/base-model.ts';
import type { Placement } from '../../src/trainer/claiming.ts';
import { StopRequest } from '../../src/trainer/stop-request.ts';
import { train } from '../../src/trainer/training.ts';
import { writeShard } from '../support/shard.ts';

const PREEMPTED = new StopRequest('preempted', 'The host is needed elsewhere.', { graceMs: 30_000, isOver: false });
const EVERYTHING: Placement = { strategy: 'ddp', processesMax: Number.POSITIVE_INFINITY };
/** Two cold starts of Python on a loaded machine, ms. */
const TEST_MS_MAX = 120_000;
const STEPS = 12;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-processes-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function attempt(number: number, more: SpecInput['train'], placement: Placement, untilStep = STEPS + 1) {
  const { python, models } = locateLocal();
  const store = createFileStore(join(folder, 'store'));
  const shard = join(folder, 'data', 'train.safetensors');
  writeShard(shard, { rows: 64, tokens: 16, labels: 8, vocabulary: 1_000 });
  const stop = new AbortController();
  const recipe = { processes: 2, microBatch: 2, maxSteps: STEPS, saveSteps: 4, threads: 1, lora: { rank: 4 }, ...more };
  return await train({
    ...{ store, python, placement, warmParent: null, sharedMemory: null, stepBefore: null, signal: stop.signal },
    state: join(folder, `host-${number}`),
    base: await openBaseModel('tiny', models),
    dataset: await putFolder(store, dirname(shard), stop.signal),
    recipe: RecipeSchema.parse(recipe),
    claimant: { run: 'moved', workflowRunId: 'w', attemptScheduledMs: number, host: `host-${number}` },
    onProgress: ({ step = 0 }) => step >= untilStep && stop.abort(PREEMPTED),
  });
}

const strategies = ['fsdp', ...(hasDeepSpeed() ? ['deepspeed' as const] : [])] as const;

test.each(strategies)(
  'with %s the run goes on with the same effective batch, and says that it is no longer bit-exact',
  {
    timeout: TEST_MS_MAX,
  },
  async (strategy) => {
    await expect(attempt(1, { strategy }, { ...EVERYTHING, strategy }, 5)).rejects.toBe(PREEMPTED);
    const { result, changes, receipts } = await attempt(2, { strategy }, { strategy, processesMax: 1 });
    expect(result.step).toBe(STEPS);
    expect(changes).toEqual([{ atStep: expect.any(Number), microBatch: 2, accumulation: 2, processes: 1 }]);
    expect(changes[0]?.atStep).toBeGreaterThanOrEqual(4);
    expect(receipts.map(({ action, exact }) => ({ action, exact }))).toEqual([{ action: 'taken_over', exact: false }]);
  },
);

function hasDeepSpeed(): boolean {
  const script = 'import importlib.util as u, sys; sys.exit(u.find_spec("deepspeed") is None)';
  return spawnSync(locateLocal().python.executable, ['-c', script]).status === 0;
}
