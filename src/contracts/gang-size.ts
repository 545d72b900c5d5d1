// How many hosts a training has and how many ranks on each, and what another number of them would break.
// Nothing here imports values, so that workflows may use these.
import type { RecipeChange } from './records.ts';
import type { Recipe } from './spec.ts';

export interface GangSize {
  hosts: number;
  /** Ranks on each host. */
  processes: number;
}

/** GPUs of the largest hosts. */
export const PROCESSES_MAX = 16;
/** More have not been tried; the pool's state must fit into one event. */
export const HOSTS_MAX = 64;

type Sized = GangSize & Pick<Recipe, 'microBatch' | 'accumulation'>;

/** Why a training cannot go on with so many, as a sentence; null when it can. Its effective batch stays. */
export function sizeProblem(recipe: Sized & { streaming: boolean }, size: GangSize): string | null {
  for (const [field, most] of [
    ['hosts', HOSTS_MAX],
    ['processes', PROCESSES_MAX],
  ] as const) {
    const count: unknown = size[field];
    if (!Number.isInteger(count) || (count as number) < 1 || (count as number) > most)
      return `\`${field}\` must be a whole number from 1 to ${most}, got ${JSON.stringify(count)}.`;
  }
  const ranks = size.hosts * size.processes;
  if (recipe.streaming && ranks > 1)
    return `\`streaming\` has one reader, whose place cannot be shared among ${ranks} ranks; go on with 1 host and 1 rank.`;
  const shares = recipe.accumulation * recipe.processes * recipe.hosts;
  if (shares % ranks === 0) return null;
  return `Each step has ${shares} micro-batches of ${recipe.microBatch}, which ${describeSize(size)} cannot share equally, so that the effective batch would change; choose hosts and ranks whose product divides ${shares}.`;
}

/** Whether the changes leave the bytes of the weights as they are: the same ranks with the same micro-batches, on whatever hosts. */
export function isExact(recipe: Sized, changes: RecipeChange[]): boolean {
  return changes.every(({ hosts = recipe.hosts, processes = recipe.processes, microBatch, accumulation }) => {
    const isSameBatch = microBatch === recipe.microBatch && accumulation === recipe.accumulation;
    return isSameBatch && hosts * processes === recipe.hosts * recipe.processes;
  });
}

/** `2 hosts with 4 ranks each`, `1 host with 1 rank`. */
export function describeSize({ hosts, processes }: GangSize): string {
  return `${hosts} ${hosts === 1 ? 'host' : 'hosts'} with ${processes} ${processes === 1 ? 'rank' : 'ranks'}${hosts === 1 ? '' : ' each'}`;
}
