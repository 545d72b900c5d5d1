// The model and the rows that goodput and overhead are measured on, made once per bench by `rivals/make_model.py`.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { locateLocal } from '../src/cli/drill/local.ts';
import type { PythonConfig } from '../src/trainer/child.ts';
import { createWarmParent, type WarmParent } from '../src/trainer/warm-parent.ts';
import { openWarmRoot } from '../src/trainer/warm-state.ts';

export interface SmallModel {
  /** Everything of this bench lies here and goes with it. */
  folder: string;
  model: string;
  shard: string;
  python: PythonConfig;
  warmParent: WarmParent;
}

const ROWS = 4_000;
export const SHARED_MEMORY = '/dev/shm';

export async function withSmallModel<T>(work: (small: SmallModel) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-bench-'));
  const { python } = locateLocal();
  const warmParent = createWarmParent(python, join(folder, 'warm-parent'));
  try {
    const script = join(import.meta.dirname, 'rivals', 'make_model.py');
    await promisify(execFile)(python.executable, [script, folder, String(ROWS)], { env: pythonEnvironment(python) });
    const model = join(folder, 'model');
    return await work({ folder, model, shard: join(folder, 'data', 'train.safetensors'), python, warmParent });
  } finally {
    await warmParent.close();
    const warmRoot = await openWarmRoot(SHARED_MEMORY, folder);
    if (warmRoot !== null) rmSync(warmRoot, { recursive: true, force: true });
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What every Python of a bench sees: offline, and threads as Anneal sets them, which matters on a machine that does other things too. */
export function pythonEnvironment(python: PythonConfig): Record<string, string> {
  return {
    ...python.environment,
    PYTHONPATH: python.packageFolder,
    HF_HUB_OFFLINE: '1',
    OMP_NUM_THREADS: '2',
    OMP_WAIT_POLICY: 'PASSIVE',
  };
}
