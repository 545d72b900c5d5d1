// Real trainers that really run out of memory: the run goes on with a smaller micro-batch, and learns what it would have learned.
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { locateLocal } from '../../src/cli/drill/local.ts';
import { type Recipe, RecipeSchema } from '../../src/contracts/spec.ts';
import { readModelShape } from '../../src/plan/model-shape.ts';
import { countParameters } from '../../src/plan/parameters.ts';
import { type MeasuredTraining, trainMeasured } from '../support/measured-training.ts';
import { writeShard } from '../support/shard.ts';

const { python, models } = locateLocal();
const hasModel = existsSync(join(models, 'tiny'));

/** The logits of half of its labels are some 250 MB: more than two equal trainings differ by. */
const MICRO_BATCH = 128;
const STEPS = 3;

describe.skipIf(process.platform !== 'linux' || !hasModel)('out of memory', () => {
  let folder: string;
  let whole: MeasuredTraining;
  let halved: MeasuredTraining;
  let limited: MeasuredTraining;

  const recipe = (fields: Partial<Recipe>) =>
    RecipeSchema.parse({
      epochs: 10,
      maxSteps: STEPS,
      threads: 1,
      device: 'cpu',
      learningRate: 0.005,
      probe: 'off',
      ...fields,
    });
  const training = (name: string, fields: Partial<Recipe>, executable = python.executable) =>
    trainMeasured({
      ...{
        warmParent: null,
        models,
        base: 'tiny',
        dataset: join(folder, 'data'),
        recipe: recipe(fields),
        folder: join(folder, name),
      },
      python: { ...python, executable },
    });

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'anneal-oom-'));
    writeShard(join(folder, 'data', 'train.safetensors'), { rows: 256, tokens: 24, labels: 10, vocabulary: 49_000 });
    whole = await training('whole', { microBatch: MICRO_BATCH });
    halved = await training('halved', { microBatch: MICRO_BATCH / 2, accumulation: 2 });
    const limit = Math.round((whole.addressBytes + halved.addressBytes) / 2 / 1024);
    const wrapper = join(folder, 'python-with-limit');
    writeFileSync(wrapper, `#!/bin/sh\nulimit -v ${limit}\nexec "${python.executable}" "$@"\n`);
    chmodSync(wrapper, 0o755);
    limited = await training('limited', { microBatch: MICRO_BATCH }, wrapper);
  }, 180_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('half the micro-batch really needs less', () => {
    expect(whole.addressBytes - halved.addressBytes).toBeGreaterThan(100e6);
  });

  test('the trainer dies of it twice, then the run goes on with half the micro-batch and twice the accumulation', () => {
    const { receipts, changes, result } = limited.training;
    expect(receipts.map(({ kind, action }) => [kind, action])).toEqual([
      ['out_of_memory', 'restarted'],
      ['out_of_memory', 'smaller_batch'],
    ]);
    expect(changes).toMatchObject([{ atStep: 0, microBatch: MICRO_BATCH / 2, accumulation: 2 }]);
    expect(receipts.at(-1)?.exact).toBe(false);
    expect(result.step).toBe(STEPS);
  });

  test('the losses are those of the larger micro-batch', () => {
    const losses = ({ training: { curve } }: MeasuredTraining) => curve?.steps.map(({ loss }) => loss) ?? [];
    expect(losses(limited)).toHaveLength(STEPS);
    for (const [i, loss] of losses(limited).entries())
      expect(Math.abs(loss - (losses(whole)[i] ?? 0))).toBeLessThan(1e-4);
  });

  test('the parameters of a plan are those that the trainer counts', async () => {
    const counted = countParameters(await readModelShape(join(models, 'tiny')), recipe({}));
    const { trainableParameters, totalParameters } = whole.training.result;
    expect(counted).toMatchObject({ trainable: trainableParameters, total: totalParameters });
  });
});
