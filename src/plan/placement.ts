// What a host's GPUs allow a training: how its ranks share it where the spec leaves that open, and how many ranks there are GPUs for.
import type { Recipe } from '../contracts/spec.ts';
import type { Placement } from '../trainer/claiming.ts';
import { strategyOf } from '../trainer/strategy.ts';
import { describeHost, gpusFor, type Host } from './host.ts';
import { readModelShape } from './model-shape.ts';
import { countParameters } from './parameters.ts';

/** @param folder of the base model. @param visible CUDA_VISIBLE_DEVICES, as trainers get it. */
export async function placeTraining(folder: string, recipe: Recipe, visible: string | undefined): Promise<Placement> {
  const isAlone = recipe.processes * recipe.hosts === 1;
  const host: Host = isAlone ? { memoryBytes: 0, gpus: [] } : await describeHost(visible);
  const gpus = gpusFor(host, recipe);
  if (gpus.length === 0) {
    return { strategy: recipe.strategy === 'auto' ? 'ddp' : recipe.strategy, processesMax: Number.POSITIVE_INFINITY };
  }
  const shape = await readModelShape(folder);
  const { trainable, total } = countParameters(shape, recipe);
  const gpuMemoryBytes = Math.min(...gpus.map(({ memoryBytes }) => memoryBytes));
  const { strategy } = strategyOf(recipe, {
    ...{ parameters: total, trainable, gpuMemoryBytes, readsImages: shape.readsImages },
  });
  return { strategy: strategy === 'none' ? 'ddp' : strategy, processesMax: gpus.length };
}
