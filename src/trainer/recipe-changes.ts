// What a run trains on, as a digest, and how it changes when memory forces a smaller micro-batch, a host has fewer GPUs, or somebody
// wants other hosts.
// A checkpoint of another lineage is never resumed; one from before a change may be, because the change keeps the effective batch.
import { AnnealError } from '../contracts/failure.ts';
import { type GangSize, sizeProblem } from '../contracts/gang-size.ts';
import type { Claim, FileSet, RecipeChange } from '../contracts/records.ts';
import type { Recipe } from '../contracts/spec.ts';
import { PROTOCOL_VERSION, type TrainJob } from '../contracts/trainer-protocol.ts';
import { digestOf } from '../storage/digest.ts';

export interface TrainingInputs {
  baseDigest: string;
  dataset: FileSet;
  recipe: Recipe;
  /** Digest of the version that it continues; absent = it begins with the base model. */
  parent?: string;
}

/** Digest of everything that decides the weights. */
export function lineageOf(inputs: TrainingInputs, changes: RecipeChange[]): string {
  const { baseDigest, dataset, recipe: whole, parent } = inputs;
  const { probe: _probe, from: _from, ...recipe } = whole;
  const shards = dataset.files
    .filter((file) => file.path.endsWith('.safetensors'))
    .map(({ path, sha256 }) => [path, sha256]);
  const identity = { protocol: PROTOCOL_VERSION, base: baseDigest, shards, recipe, ...(parent && { parent }) };
  return digestOf(changes.length === 0 ? identity : { ...identity, changes });
}

/** Lineages whose checkpoints lead to this one: of every prefix of the changes. */
export function lineagesUpTo(inputs: TrainingInputs, changes: RecipeChange[]): string[] {
  return [...changes.keys(), changes.length].map((count) => lineageOf(inputs, changes.slice(0, count)));
}

/** What is trained with after the changes. */
export function changedRecipe<T extends Batch>(recipe: T, changes: RecipeChange[]): T {
  const { microBatch, accumulation, processes = recipe.processes, hosts = recipe.hosts } = changes.at(-1) ?? recipe;
  return { ...recipe, microBatch, accumulation, processes, hosts };
}

export function ranksOf({ hosts, processes }: GangSize): number {
  return hosts * processes;
}

/** Steps between checkpoints where the spec does not say and the pacing finds no reason for an earlier one. */
const SAVE_STEPS_MAX = 1_000;

/** What the trainer reads. @param shared how ranks share the training, where there are several. */
export function resolveRecipe(
  whole: Recipe,
  changes: RecipeChange[],
  shared: NonNullable<Claim['strategy']> = 'ddp',
): TrainJob['recipe'] {
  const { probe: _probe, from: _from, ...rest } = whole;
  const recipe = changedRecipe(rest, changes);
  return {
    ...recipe,
    strategy: ranksOf(recipe) > 1 ? shared : 'ddp',
    orderBatch: whole.microBatch,
    saveSteps: recipe.saveSteps ?? SAVE_STEPS_MAX,
  };
}

export interface ChangeWish {
  /** Divides the micro-batch; 1 = as it is. */
  factor: number;
  /** Ranks that this host has GPUs for; infinite = as many as are wanted. */
  processesMax: number;
  /** Hosts and ranks in place of the recipe's. */
  size?: GangSize | undefined;
}

/**
 * The changes of a claim that resumes at this step: those so far, none later than the step, and one more where the micro-batch must be
 * smaller or the ranks are other ones. Of several at one step the last counts.
 * @throws AnnealError `bad_request` when so many hosts would change the effective batch.
 */
export function changesAt(recipe: Recipe, changes: RecipeChange[], atStep: number, wish: ChangeWish): RecipeChange[] {
  const now = changedRecipe(recipe, changes);
  const next = resized(smallerBatch(now, wish.factor), wish.size ?? recipe, wish.processesMax);
  const isChanged = BATCH.some((field) => next[field] !== now[field]);
  const { microBatch, accumulation, processes, hosts } = next;
  const change: RecipeChange = {
    ...{ atStep, microBatch, accumulation },
    ...(processes === recipe.processes ? {} : { processes }),
    ...(hosts === recipe.hosts ? {} : { hosts }),
  };
  const all = [...changes, ...(isChanged ? [change] : [])].map((each) => ({
    ...each,
    atStep: Math.min(each.atStep, atStep),
  }));
  return all.filter((each, i) => all[i + 1]?.atStep !== each.atStep);
}

const BATCH = ['microBatch', 'accumulation', 'processes', 'hosts'] as const;
type Batch = Pick<Recipe, (typeof BATCH)[number]>;

function smallerBatch<T extends Batch>(batch: T, factor: number): T {
  return { ...batch, microBatch: batch.microBatch / factor, accumulation: batch.accumulation * factor };
}

/** With as many ranks on each host as are wanted, or as there are GPUs for, of those that keep the effective batch. */
function resized<T extends Batch & { streaming: boolean }>(
  batch: T,
  { hosts, processes: wanted }: GangSize,
  max: number,
): T {
  const shares = batch.accumulation * batch.processes * batch.hosts;
  let processes = Math.min(wanted, max);
  while (processes > 1 && shares % (processes * hosts) !== 0) processes--;
  const problem = sizeProblem(batch, { hosts, processes });
  if (problem !== null) throw new AnnealError('bad_request', problem);
  return { ...batch, hosts, processes, accumulation: shares / (processes * hosts) };
}
