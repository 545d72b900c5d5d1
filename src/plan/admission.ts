// Before a run's first training: does it fit into this host's memory? Measures only where arithmetic leaves that open.
import { join } from 'node:path';
import type { Dataset } from '../contracts/records.ts';
import { isShardOf } from '../contracts/shards.ts';
import type { Recipe } from '../contracts/spec.ts';
import { PROTOCOL_VERSION, type ProbeJob } from '../contracts/trainer-protocol.ts';
import { getFolder } from '../storage/file-set.ts';
import { bringImages } from '../storage/images.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { BaseModel } from '../trainer/base-model.ts';
import type { PythonConfig } from '../trainer/child.ts';
import { resolveRecipe } from '../trainer/recipe-changes.ts';
import type { StrategyChoice } from '../trainer/strategy.ts';
import type { WarmParent } from '../trainer/warm-parent.ts';
import { describeHost } from './host.ts';
import { checkMemory, questionOf, requireFit, strategyFor, wantsProbe } from './memory-check.ts';
import { readModelShape } from './model-shape.ts';
import { runProbe } from './probe.ts';
import { planSteps } from './steps.ts';

export interface AdmissionOptions {
  store: ObjectStore;
  python: PythonConfig;
  warmParent: WarmParent | null;
  /** This host's state folder. */
  state: string;
  run: string;
  base: BaseModel;
  dataset: Dataset;
  recipe: Recipe;
  signal: AbortSignal;
  onProgress: (phase: string) => void;
  /** Stands for `/` when control groups are read; tests set it. */
  systemRoot?: string;
}

/** A probe takes as long as three steps and two starts: of shorter runs too large a share. */
const PROBED_STEPS_MIN = 100;

/** A run that has trained already is let through. @throws AnnealError `out_of_memory` when it is certain that it will not fit. */
export async function requireMemory(options: AdmissionOptions): Promise<void> {
  const { store, run, base, dataset, recipe, python } = options;
  const tokens = dataset.tokens.splits.train;
  if (recipe.probe === 'off' || tokens === undefined) return;
  if ((await store.list(keys.claims(run))).length > 0) return;
  const host = await describeHost(python.environment.CUDA_VISIBLE_DEVICES, options.systemRoot);
  const shape = await readModelShape(base.folder);
  const question = questionOf(shape, recipe, tokens, host);
  const { total } = planSteps(recipe, { rowsPerEpoch: tokens.rows, splits: dataset.tokens.splits, factor: 1 });
  const isWorthIt = total >= PROBED_STEPS_MIN && wantsProbe(question, host);
  const probe = isWorthIt ? await measure(options, strategyFor(shape, recipe, host)) : null;
  requireFit(checkMemory(question, host, probe), recipe);
}

async function measure(options: AdmissionOptions, strategy: StrategyChoice) {
  const { store, dataset, run, base, recipe, state, signal } = options;
  const folder = join(state, 'gpu', 'runs', run);
  const shards = dataset.files.files.filter(({ path }) => isShardOf(path, 'train', 'safetensors'));
  await getFolder(store, { digest: dataset.digest, files: shards }, join(folder, 'dataset'), signal);
  const files = shards.map(({ path }) => join(folder, 'dataset', path));
  await bringImages(store, files, signal);
  const [train, output] = [join(folder, 'dataset', 'train.safetensors'), join(folder, 'probe', 'steps')];
  const job = probeJob(base, train, output, recipe, strategy);
  return await runProbe({ ...options, folder: join(folder, 'probe'), job });
}

export function probeJob(
  base: Pick<BaseModel, 'name' | 'folder'>,
  train: string,
  output: string,
  recipe: Recipe,
  { strategy }: Pick<StrategyChoice, 'strategy'> = { strategy: 'none' },
): ProbeJob {
  return {
    v: PROTOCOL_VERSION,
    command: 'probe',
    train: {
      ...{
        v: PROTOCOL_VERSION,
        command: 'train',
        baseModel: base.folder,
        baseName: base.name,
        train,
        validation: null,
        output,
      },
      ...{
        resume: null,
        warm: null,
        hole: null,
        recipe: resolveRecipe(recipe, [], strategy === 'none' ? 'ddp' : strategy),
      },
    },
  };
}
