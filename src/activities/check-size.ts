// Whether a run's training would fit with another number of hosts or ranks: asked before it is told to go on so.
import { DatasetSchema } from '../contracts/records.ts';
import type { CheckSizeInput } from '../contracts/stages.ts';
import { readModelShape } from '../plan/model-shape.ts';
import { resizeProblem } from '../plan/resize.ts';
import { keys } from '../storage/keys.ts';
import { findBaseModel } from '../trainer/base-model.ts';
import type { Parts } from './parts.ts';
import { findHosts } from './pool-hosts.ts';
import { readRecord } from './stage.ts';

export function createSizeActivities(parts: Pick<Parts, 'store' | 'models'>) {
  return {
    /** A sentence, or null. */
    async checkSize({ spec, dataset, from, to }: CheckSizeInput): Promise<string | null> {
      const { tokens } = await readRecord(parts.store, keys.dataset(dataset), DatasetSchema);
      const train = tokens.splits.train;
      if (train === undefined) return null;
      const shape = await readModelShape(await findBaseModel(spec.model.base, parts.models));
      return resizeProblem({ shape, recipe: spec.train, tokens: train, hosts: await findHosts() }, from, to);
    },
  };
}
