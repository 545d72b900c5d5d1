// How many steps a training has, as the trainer counts them. Pure.
import type { Recipe } from '../contracts/spec.ts';
import type { PlannedData } from './data.ts';

export interface StepPlan {
  perEpoch: number;
  total: number;
  effectiveBatch: number;
  /** That the training will have seen at its end. */
  tokens: number;
}

type Counted = Pick<PlannedData, 'rowsPerEpoch' | 'splits' | 'factor'>;

/** An epoch's last step may be a smaller one. */
export function planSteps(recipe: Recipe, { rowsPerEpoch, splits, factor }: Counted): StepPlan {
  const { microBatch, accumulation, processes, hosts, epochs, maxSteps } = recipe;
  const ranks = processes * hosts;
  const rows = Math.round(rowsPerEpoch * (factor ?? 1));
  const perEpoch = Math.ceil(Math.ceil(Math.ceil(rows / microBatch) / ranks) / accumulation);
  const wanted = Math.ceil(epochs * perEpoch);
  const total = Math.min(wanted, maxSteps ?? wanted);
  const tokens = ((splits.train?.tokens ?? 0) * (factor ?? 1) * total) / Math.max(1, perEpoch);
  return { perEpoch, total, effectiveBatch: microBatch * accumulation * ranks, tokens: Math.round(tokens) };
}
