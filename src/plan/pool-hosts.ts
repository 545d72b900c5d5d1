// Which of the pool's hosts a plan counts with: of those that could be given the training, the one with the least memory. Pure.
import { type Problem, problemIf } from '../contracts/failure.ts';
import type { PoolHost } from '../contracts/pool.ts';
import type { Recipe } from '../contracts/spec.ts';
import { type Host, limitOf } from './host.ts';

type Wanted = Pick<Recipe, 'device' | 'processes'>;

/** null where none of them has told its memory. */
export function smallestHost(hosts: PoolHost[], recipe: Wanted): Host | null {
  const enough = hosts.filter(({ slots }) => slots >= recipe.processes);
  const told = alike(enough.length > 0 ? enough : hosts, recipe).flatMap(describe);
  return told.toSorted((a, b) => limitOf(a, recipe) - limitOf(b, recipe))[0] ?? null;
}

/** A training of one host is refused by one with fewer GPUs than it has ranks; of several, the pool itself says what it lacks. */
export function lackOfGpus(hosts: PoolHost[], recipe: Wanted & Pick<Recipe, 'hosts'>): Problem[] {
  const gpus = alike(hosts, recipe).filter(({ device }) => device === 'gpu');
  if (recipe.hosts > 1 || recipe.device === 'cpu' || gpus.length === 0) return [];
  const most = Math.max(...gpus.map(({ slots }) => slots));
  const largest = gpus.find(({ slots }) => slots === most)?.name;
  const has = most === 1 ? '1 GPU' : `${most} GPUs`;
  const message = `must be at most ${most}, because the pool’s largest host ${largest} has ${has}, got ${recipe.processes}; or share the ranks among several \`train.hosts\`, or set \`train.device: cpu\``;
  return problemIf(recipe.processes > most, 'train.processes', message);
}

/** Where there are GPUs, they are what trainings get that do not ask for processors. */
function alike(hosts: PoolHost[], { device }: Pick<Recipe, 'device'>): PoolHost[] {
  const wanted = hosts.filter((host) => host.device === (device === 'cpu' ? 'cpu' : 'gpu'));
  return wanted.length > 0 ? wanted : hosts;
}

function describe({ name, device, slots, memory }: PoolHost): Host[] {
  if (memory === undefined || (device === 'gpu' && memory.gpu === null)) return [];
  const { gpu, memoryBytes } = memory;
  return [{ name, memoryBytes, gpus: gpu === null ? [] : Array.from({ length: slots }, () => gpu) }];
}
