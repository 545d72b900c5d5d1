// A real training through the product's own supervision, without warm state, with an eye on its process's memory.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Training } from '../../src/contracts/records.ts';
import type { Recipe } from '../../src/contracts/spec.ts';
import { putFolder } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { openBaseModel } from '../../src/trainer/base-model.ts';
import type { PythonConfig } from '../../src/trainer/child.ts';
import { readTrainerRecord } from '../../src/trainer/leftovers.ts';
import { LIMIT_RULES } from '../../src/trainer/phase-limits.ts';
import { train } from '../../src/trainer/training.ts';
import type { WarmParent } from '../../src/trainer/warm-parent.ts';

export interface MeasuredTraining {
  training: Training;
  /** The most that the trainer had in memory when it had done a step, and of address space, bytes. */
  residentBytes: number;
  addressBytes: number;
}

export interface MeasuredOptions {
  python: PythonConfig;
  /** null = cold starts. */
  warmParent: WarmParent | null;
  models: string;
  base: string;
  /** Folder with `train.safetensors`. */
  dataset: string;
  recipe: Recipe;
  /** Everything of this training goes there. */
  folder: string;
  signal?: AbortSignal;
}

export async function trainMeasured(options: MeasuredOptions): Promise<MeasuredTraining> {
  const { python, warmParent, models, base, dataset, recipe, folder } = options;
  const store = createFileStore(join(folder, 'store'));
  const signal = options.signal ?? new AbortController().signal;
  const peaks = { residentBytes: 0, addressBytes: 0 };
  const training = await train({
    ...{ store, python, warmParent, sharedMemory: null, state: folder, recipe, stepBefore: null, signal },
    base: await openBaseModel(base, models),
    dataset: await putFolder(store, dataset, signal),
    // A loaded machine is no reason to end it.
    drill: { limits: { ...LIMIT_RULES, factor: LIMIT_RULES.factor * 100, slackMs: LIMIT_RULES.slackMs * 100 } },
    claimant: { run: 'measured', workflowRunId: 'w', attemptScheduledMs: 1, host: 'h' },
    onProgress: ({ phase, step }) => {
      if (phase === 'train' && step !== undefined) Object.assign(peaks, readPeaks(folder));
    },
  });
  return { training, ...peaks };
}

function readPeaks(state: string): Omit<MeasuredTraining, 'training'> | null {
  try {
    const status = readFileSync(`/proc/${readTrainerRecord(state)?.pid}/status`, 'utf8');
    const kib = (name: string) => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
    return { residentBytes: kib('VmHWM'), addressBytes: kib('VmPeak') };
  } catch {
    return null; // it has just ended
  }
}
