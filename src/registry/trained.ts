// What the store has of a run's training: the record of one that is done, the learning curve of one that goes on or has stopped.
import type { LearningCurve } from '../contracts/learning-curve.ts';
import { CheckpointSchema, type Training, TrainingSchema } from '../contracts/records.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { readJson } from '../storage/record.ts';

/** The record of the run's training, or null while it is not done. */
export async function readTraining(store: ObjectStore, run: string): Promise<Training | null> {
  // `train-rung-…` says where a trial of a sweep has waited.
  const found = (await store.list(keys.stages(run, 'train'))).filter((key) => /\/train-[0-9a-f]{16}\.json$/.test(key));
  const records = await Promise.all(found.map((key) => readJson(store, key, TrainingSchema)));
  // A run trains one recipe on one dataset, unless its sources were changed before it was started again.
  return records.filter((one) => one !== null).sort((a, b) => b.goodput.atMs - a.goodput.atMs)[0] ?? null;
}

/** Up to the newest checkpoint; null where there is none, or only those of an earlier release. */
export async function readCurve(store: ObjectStore, run: string): Promise<LearningCurve | null> {
  const training = await readTraining(store, run);
  if (training !== null) return training.curve ?? null;
  // Keys sort by claim, then by step.
  const manifests = (await store.list(keys.claims(run))).filter((key) => /\/checkpoints\/\d+\.json$/.test(key)).sort();
  const newest = manifests.at(-1);
  return newest === undefined ? null : ((await readJson(store, newest, CheckpointSchema))?.curve ?? null);
}
