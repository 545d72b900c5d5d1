// What a run trains on, as a digest, and how it changes when memory forces a smaller micro-batch or a host has fewer GPUs.
// A checkpoint of another lineage is never resumed; one from before a change may be, because the change keeps the effective batch.
import type { Claim, FileSet, RecipeChange } from '../contracts/records.ts';
import type { Recipe } from '../contracts/spec.ts';
import { PROTOCOL_VERSION, type TrainJob } from '../contracts/trainer-protocol.ts';
import { digestOf } from '../storage/digest.ts';

export interface TrainingInputs {
  baseDigest: string;
  dataset: FileSet;
  recipe: Recipe;
}

/** Digest of everything that decides the weights. */
export function lineageOf({ baseDigest, dataset, recipe: whole }: TrainingInputs, changes: RecipeChange[]): string {
  const { probe: _probe, ...recipe } = whole;
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
export function changedRecipe<T extends Pick<Recipe, 'microBatch' | 'accumulation' | 'processes'>>(
  recipe: T,
  changes: RecipeChange[],
): T {
  const { microBatch, accumulation, processes = recipe.processes } = changes.at(-1) ?? recipe;
  return { ...recipe, microBatch, accumulation, processes };
}

/** Steps between checkpoints where the spec does not say and the pacing finds no reason for an earlier one. */
const SAVE_STEPS_MAX = 1_000;

/** What the trainer reads. @param shared how ranks share the training, where there are several. */
export function resolveRecipe(
  whole: Recipe,
  changes: RecipeChange[],
  shared: NonNullable<Claim['strategy']> = 'ddp',
): TrainJob['recipe'] {
  const { probe: _probe, ...rest } = whole;
  const recipe = changedRecipe(rest, changes);
  return {
    ...recipe,
    strategy: recipe.processes * recipe.hosts > 1 ? shared : 'ddp',
    orderBatch: whole.microBatch,
    saveSteps: recipe.saveSteps ?? SAVE_STEPS_MAX,
  };
}

export interface ChangeWish {
  /** Divides the micro-batch; 1 = as it is. */
  factor: number;
  /** Ranks that this host has GPUs for; infinite = as many as are wanted. */
  processesMax: number;
}

/**
 * The changes of a claim that resumes at this step: those so far, none later than the step, and one more where the micro-batch must be
 * smaller or the ranks are other ones. Of several at one step the last counts.
 */
export function changesAt(recipe: Recipe, changes: RecipeChange[], atStep: number, wish: ChangeWish): RecipeChange[] {
  const now = changedRecipe(recipe, changes);
  const next = smallerBatch(now, wish.factor);
  const processes = fittingProcesses(recipe, next, wish.processesMax);
  const isChanged = next.microBatch !== now.microBatch || processes !== now.processes;
  const change: RecipeChange = {
    atStep,
    microBatch: next.microBatch,
    accumulation: (next.accumulation * next.processes) / processes,
    ...(processes === recipe.processes ? {} : { processes }),
  };
  const all = [...changes, ...(isChanged ? [change] : [])].map((each) => ({
    ...each,
    atStep: Math.min(each.atStep, atStep),
  }));
  return all.filter((each, i) => all[i + 1]?.atStep !== each.atStep);
}

type Batch = Pick<Recipe, 'microBatch' | 'accumulation' | 'processes'>;

function smallerBatch({ microBatch, accumulation, processes }: Batch, factor: number): Batch {
  return { microBatch: microBatch / factor, accumulation: accumulation * factor, processes };
}

/** As many as the recipe says, or as there are GPUs for, of those that keep the effective batch. One always does. */
function fittingProcesses({ processes: wanted }: Recipe, { accumulation, processes }: Batch, max: number): number {
  const shares = accumulation * processes;
  for (let count = Math.min(wanted, max); count > 1; count--) if (shares % count === 0) return count;
  return 1;
}
