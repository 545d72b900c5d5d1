// The workflows with changes of the kind that break runs which are under way: what the replay tests must catch.
import { CancellationScope, sleep } from '@temporalio/workflow';
import {
  FineTune as unchangedFineTune,
  GpuPool as unchangedGpuPool,
  Retraining as unchangedRetraining,
  Sweep as unchangedSweep,
  TrainingGang as unchangedTrainingGang,
} from '../../src/workflows/index.ts';

/** One timer more, after everything else: found only by who compares a history to its last event. */
export async function FineTune(...input: Parameters<typeof unchangedFineTune>) {
  try {
    return await unchangedFineTune(...input);
  } finally {
    await CancellationScope.nonCancellable(() => sleep('1 second'));
  }
}

/** One timer more, before everything else. */
const later =
  <A extends unknown[], R>(workflow: (...input: A) => Promise<R>) =>
  async (...input: A): Promise<R> => {
    await sleep('1 second');
    return await workflow(...input);
  };
export const Retraining = later(unchangedRetraining);
export const Sweep = later(unchangedSweep);
export const TrainingGang = later(unchangedTrainingGang);
export const GpuPool = later(unchangedGpuPool);
