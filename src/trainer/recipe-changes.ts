// What a run trains on, as a digest, and how it changes when memory forces a smaller micro-batch.
// A checkpoint of another lineage is never resumed; one from before a change may be, because the change keeps the effective batch.
import type { FileSet, RecipeChange } from '../contracts/records.ts';
import type { Recipe } from '../contracts/spec.ts';
import { PROTOCOL_VERSION } from '../contracts/trainer-protocol.ts';
import { digestOf } from '../storage/digest.ts';

export interface TrainingInputs {
  baseDigest: string;
  dataset: FileSet;
  recipe: Recipe;
}

/** Digest of everything that decides the weights. */
export function lineageOf({ baseDigest, dataset, recipe }: TrainingInputs, changes: RecipeChange[]): string {
  const shards = dataset.files
    .filter((file) => file.path.endsWith('.safetensors'))
    .map(({ path, sha256 }) => [path, sha256]);
  const identity = { protocol: PROTOCOL_VERSION, base: baseDigest, shards, recipe };
  return digestOf(changes.length === 0 ? identity : { ...identity, changes });
}

/** Lineages whose checkpoints lead to this one: of every prefix of the changes. */
export function lineagesUpTo(inputs: TrainingInputs, changes: RecipeChange[]): string[] {
  return [...changes.keys(), changes.length].map((count) => lineageOf(inputs, changes.slice(0, count)));
}

/** What is trained with after the changes. */
export function changedRecipe<T extends Pick<Recipe, 'microBatch' | 'accumulation'>>(
  recipe: T,
  changes: RecipeChange[],
): T {
  const { microBatch, accumulation } = changes.at(-1) ?? recipe;
  return { ...recipe, microBatch, accumulation };
}

/**
 * The changes of a claim that resumes at this step: those so far, none later than the step, and with a factor above 1 one more.
 * Of several at one step the last counts.
 */
export function changesAt(recipe: Recipe, changes: RecipeChange[], atStep: number, factor: number): RecipeChange[] {
  const { microBatch, accumulation } = changedRecipe(recipe, changes);
  const next = factor > 1 ? [{ atStep, microBatch: microBatch / factor, accumulation: accumulation * factor }] : [];
  const all = [...changes, ...next].map((change) => ({ ...change, atStep: Math.min(change.atStep, atStep) }));
  return all.filter((change, i) => all[i + 1]?.atStep !== change.atStep);
}
