// Memory: what a probe and what arithmetic predict, beside the peak of the real training, for several recipes of one base model.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { locateLocal } from '../src/cli/drill/local.ts';
import { type Recipe, RecipeSchema } from '../src/contracts/spec.ts';
import { probeJob } from '../src/plan/admission.ts';
import { predictMemory, totalOf } from '../src/plan/memory.ts';
import { questionOf } from '../src/plan/memory-check.ts';
import { type ModelShape, readModelShape } from '../src/plan/model-shape.ts';
import { extrapolate, runProbe } from '../src/plan/probe.ts';
import { openBaseModel } from '../src/trainer/base-model.ts';
import type { PythonConfig } from '../src/trainer/child.ts';
import { createWarmParent, type WarmParent } from '../src/trainer/warm-parent.ts';
import { trainMeasured } from '../test/support/measured-training.ts';
import { writeShard } from '../test/support/shard.ts';
import { type BenchOptions, type BenchReport, round, show } from './report.ts';

const BASE = 'smollm2-135m';
const FORM = { rows: 64, tokens: 128, labels: 40, vocabulary: 49_000 };
const STEPS = 3;
const COMMON = { epochs: 10, maxSteps: STEPS, microBatch: 8, threads: 2, device: 'cpu' };

const RECIPES: Record<string, object> = {
  LoRA: {},
  'LoRA, gradient checkpointing': { gradientCheckpointing: true },
  'QLoRA, 4 bits': { tuning: 'qlora' },
  full: { tuning: 'full' },
  'full, 8-bit optimizer': { tuning: 'full', optimizer: 'adamw8bit' },
  'full, gradient checkpointing, 8-bit optimizer': {
    tuning: 'full',
    optimizer: 'adamw8bit',
    gradientCheckpointing: true,
  },
};

interface Measured {
  name: string;
  peakBytes: number;
  probeBytes: number;
  arithmeticBytes: number;
}

export async function run({ quick, signal, say }: BenchOptions): Promise<BenchReport> {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-bench-'));
  const { python, models } = locateLocal();
  const warmParent = createWarmParent(python, join(folder, 'warm-parent'));
  const measured: Measured[] = [];
  try {
    writeShard(join(folder, 'data', 'train.safetensors'), FORM);
    for (const [name, fields] of Object.entries(RECIPES).slice(0, quick ? 2 : undefined)) {
      say(name);
      const recipe = RecipeSchema.parse({ ...COMMON, ...fields });
      measured.push(await measure({ name, recipe, folder, python, models, warmParent, signal }));
    }
  } finally {
    await warmParent.close();
    rmSync(folder, { recursive: true, force: true });
  }
  const worst = Math.max(...measured.map(({ probeBytes, peakBytes }) => Math.abs(probeBytes / peakBytes - 1)));
  return {
    title: 'Memory: predicted and measured',
    json: { recipes: measured.length, probeErrorMax: round(worst, 4) },
    columns: ['recipe', 'peak', 'probe', '', 'arithmetic', ''],
    rows: measured.map(({ name, peakBytes, probeBytes, arithmeticBytes }) => [
      name,
      show(peakBytes / 1e6, 0, 'MB'),
      ...[probeBytes, arithmeticBytes].flatMap((bytes) => [show(bytes / 1e6, 0, 'MB'), error(bytes, peakBytes)]),
    ]),
    notes: [
      `${BASE}, micro-batches of ${COMMON.microBatch} rows of ${FORM.tokens} tokens, ${STEPS} steps; peak resident set of the trainer at a step’s end. The probe trains two steps with half of the rows, then with all.`,
      'Goal: the probe within 10 %.',
    ],
  };
}

interface Cell {
  name: string;
  recipe: Recipe;
  folder: string;
  python: PythonConfig;
  models: string;
  warmParent: WarmParent;
  signal: AbortSignal;
}

/** Both as in production: forked from a warm parent. */
async function measure({ name, recipe, folder, models, ...options }: Cell): Promise<Measured> {
  const [base, dataset, own] = [await openBaseModel(BASE, models), join(folder, 'data'), join(folder, name)];
  const job = probeJob(base, join(dataset, 'train.safetensors'), join(own, 'probe', 'steps'), recipe);
  const probe = await runProbe({ ...options, job, folder: join(own, 'probe'), onProgress: () => undefined });
  const { residentBytes } = await trainMeasured({ ...options, models, base: BASE, dataset, recipe, folder: own });
  const shape = await readModelShape(base.folder);
  const probeBytes = extrapolate(probe, recipe.microBatch) ?? Number.POSITIVE_INFINITY;
  return { name, peakBytes: residentBytes, probeBytes, arithmeticBytes: arithmetic(shape, recipe) };
}

function arithmetic(shape: ModelShape, recipe: Recipe): number {
  const { rows, tokens, labels } = FORM;
  const counts = { rows, tokens: rows * tokens, trainableTokens: rows * labels, longest: tokens };
  const host = { memoryBytes: Number.POSITIVE_INFINITY, gpus: [] };
  // Measured without warm state and without a job parent.
  return totalOf({ ...predictMemory(questionOf(shape, recipe, counts, host)), recovery: 0 });
}

function error(bytes: number, peakBytes: number): string {
  const percent = 100 * (bytes / peakBytes - 1);
  return `${percent < 0 ? '−' : '+'}${Math.abs(percent).toFixed(1)} %`;
}
