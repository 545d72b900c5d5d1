// How fast trainings like this one have been: hints that every finished training leaves in the store. They may be lost.
import { z } from 'zod';
import type { Training } from '../contracts/records.ts';
import type { Recipe } from '../contracts/spec.ts';
import { canonicalJson, digestOf } from '../storage/digest.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { readJson } from '../storage/record.ts';
import type { TrainingOptions } from '../trainer/attempt.ts';
import { describeHost, gpusFor } from './host.ts';

const SpeedSchema = z.object({
  /** Of all ranks together, with evaluations, without what failures cost. */
  tokensPerSecond: z.number(),
  /** Name of the GPU, or `cpu`. */
  device: z.string(),
  run: z.string(),
  at: z.string(),
});
export type Speed = z.infer<typeof SpeedSchema>;

/** Shorter trainings say little, seconds. */
const SECONDS_MIN = 2;

/** A hint that cannot be written is done without: the training is what counts. */
export async function recordSpeed(
  { store, python, recipe, claimant }: Pick<TrainingOptions, 'store' | 'python' | 'recipe' | 'claimant'>,
  base: string,
  { result, goodput }: Training,
): Promise<void> {
  if (goodput.productiveSeconds < SECONDS_MIN) return;
  const host = await describeHost(python.environment.CUDA_VISIBLE_DEVICES);
  const device = gpusFor(host, recipe)[0]?.name ?? 'cpu';
  const tokensPerSecond = result.tokens / goodput.productiveSeconds;
  const speed: Speed = { tokensPerSecond, device, run: claimant.run, at: new Date().toISOString() };
  const key = `${prefixOf(base, recipe)}${digestOf(device).slice(0, 16)}.json`;
  await store.put(key, Buffer.from(canonicalJson(speed))).catch(() => undefined);
}

/** The last one on each device. */
export async function readSpeeds(store: ObjectStore, base: string, recipe: Recipe): Promise<Speed[]> {
  const found = await store.list(prefixOf(base, recipe));
  const speeds = await Promise.all(found.map((key) => readJson(store, key, SpeedSchema)));
  return speeds.filter((speed) => speed !== null);
}

/** Of what decides the speed besides data and device. */
function prefixOf(base: string, recipe: Recipe): string {
  const { method, tuning, qlora, lora, microBatch, threads, processes, hosts, strategy, precision } = recipe;
  const { packing, gradientCheckpointing, optimizer } = recipe;
  const adapter = tuning === 'full' ? null : lora;
  const identity = { base, method, tuning, qlora, adapter, microBatch, threads, processes, hosts, strategy, precision };
  return keys.speeds(digestOf({ ...identity, packing, gradientCheckpointing, optimizer }));
}
