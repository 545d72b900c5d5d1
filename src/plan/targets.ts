// Whether the modules that a recipe would adapt exist in the base model. Pure; read from the headers of its weights, so it is known at once.
import { type Problem, problemIf } from '../contracts/failure.ts';
import type { Recipe } from '../contracts/spec.ts';
import type { ModelShape } from './model-shape.ts';
import { adaptedLayers, cannotAdapt, hasExperts, moduleNames } from './parameters.ts';

export function targetProblems(shape: ModelShape, recipe: Recipe): Problem[] {
  const { lora, tuning } = recipe;
  if (tuning === 'full') return [];
  const path = 'train.lora.targets';
  const known = moduleNames(shape);
  const has = known.join(', ');
  const unknown = Array.isArray(lora.targets) ? lora.targets.filter((name) => !known.includes(name)) : [];
  const past = Array.isArray(lora.targets) ? lora.targets.filter((name) => cannotAdapt(shape, name)) : [];
  const isTooHigh = shape.layers > 0 && lora.firstLayer >= shape.layers;
  const finds = unknown.length > 0 || isTooHigh || adaptedLayers(shape, recipe).length > 0;
  return [
    ...unknown.map((name) => ({ path, message: `names ${name}, which the model does not have; it has ${has}` })),
    ...past.map((name) => ({
      path,
      message: `names ${name}, whose weights this model's kernels read past any adapter; leave it out`,
    })),
    ...problemIf(
      isTooHigh,
      'train.lora.firstLayer',
      `must be below the model's ${shape.layers} layers, got ${lora.firstLayer}`,
    ),
    ...problemIf(lora.experts && !hasExperts(shape), 'train.lora.experts', 'must be false: the model has no experts'),
    ...problemIf(!finds, path, `finds no layer to adapt; name some of ${has}`),
  ];
}
