// Chats with images through the stages: a model that reads them is prepared for, trained and evaluated, with the images alone in the store.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeDataset } from '../src/activities/preprocess.ts';
import { locateLocal } from '../src/cli/drill/local.ts';
import type { Dataset } from '../src/contracts/records.ts';
import { parseSpec, type Spec, type SpecInput } from '../src/contracts/spec.ts';
import { takeSnapshot } from '../src/data/snapshot.ts';
import { evaluate } from '../src/evaluation/evaluate.ts';
import { readModelShape } from '../src/plan/model-shape.ts';
import { countParameters, moduleNames } from '../src/plan/parameters.ts';
import { getBlob, getFolder } from '../src/storage/file-set.ts';
import { bringImages } from '../src/storage/images.ts';
import { keys } from '../src/storage/keys.ts';
import { readImageDigests } from '../src/storage/safetensors.ts';
import { openBaseModel } from '../src/trainer/base-model.ts';
import { train } from '../src/trainer/training.ts';
import { visionProblems } from '../src/trainer/vision.ts';
import { localParts } from './support/data-parts.ts';

const { python, models } = locateLocal();
const ROWS = 60;

const folder = mkdtempSync(join(tmpdir(), 'anneal-vision-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('chats with images', () => {
  const parts = { ...localParts(folder), python, models: folder };
  const signal = new AbortController().signal;
  const context = {
    signal,
    report: () => undefined,
    progress: () => ({ stage: 'preprocess', phase: 'test' }) as const,
  };
  let dataset: Dataset;

  const specOf = (fields: Partial<SpecInput>) =>
    parseSpec({
      name: 'colours',
      model: { base: 'seeing' },
      data: { sources: [{ uri: join(folder, 'rows.jsonl') }], split: { test: 0.2, validation: 0.1 } },
      until: 'register',
      ...fields,
    });
  const recipe = { epochs: 1, threads: 1, device: 'cpu', microBatch: 8, learningRate: 0.01 } as const;
  const prepare = async (spec: Spec) => {
    const sources = { examplesFolder: folder, readS3: async () => null };
    const snapshot = await takeSnapshot(parts.store, spec, sources, () => undefined);
    const input = { run: 'colours', spec, snapshot: snapshot.digest };
    return (await makeDataset(parts, { sources, pseudonymKey: null }, input, context)).dataset;
  };
  const filesOf = (end: string) => dataset.files.files.filter(({ path }) => path.endsWith(end));

  beforeAll(async () => {
    const script = `import sys; from pathlib import Path; from seeing import write_source; write_source(Path(sys.argv[1]), ${ROWS})`;
    const cwd = join(python.packageFolder, 'tests');
    execFileSync(python.executable, ['-c', script, folder], {
      cwd,
      env: { ...process.env, PYTHONPATH: python.packageFolder },
    });
    dataset = await prepare(specOf({ train: recipe }));
  }, 120_000);

  test('every row is kept, and its image is a blob, in no file of the dataset', async () => {
    expect(dataset.accounts).toMatchObject({ rowsIn: ROWS, kept: ROWS, dropped: {} });
    const [rows] = filesOf('train.jsonl');
    const lines = Buffer.from(await getBlob(parts.store, rows?.parts[0] as string)).toString('utf8');
    const [first] = lines.split('\n').map((line) => JSON.parse(line || 'null'));
    const blob = await getBlob(parts.store, first.media[0].digest);
    expect(Buffer.from(blob).subarray(1, 4).toString()).toBe('PNG');
    expect(first.messages[0].content).toMatch(/^<image>Colour of \d+\?$/);
    expect(dataset.tokens.sample[0]?.text).toContain('<|vision_start|><|image_pad|><|image_pad|>');
  });

  test('it is trained, from images that are brought by digest, and judged by the answers to held-out ones', async () => {
    const base = await openBaseModel('seeing', folder);
    const shape = await readModelShape(base.folder);
    const { train: settings, evaluate: rules } = specOf({ train: recipe, evaluate: { match: 'exact' } });
    const media = join(folder, 'gpu', 'runs', 'seen', 'dataset', 'media');
    let seen: string[] = [];
    const training = await train({
      ...{ store: parts.store, python, warmParent: null, sharedMemory: null, state: folder, base, signal },
      ...{ dataset: dataset.files, recipe: settings, stepBefore: null },
      claimant: { run: 'seen', workflowRunId: 'w', attemptScheduledMs: 1, host: 'h' },
      onProgress: ({ phase }) => {
        if (phase === 'train') seen = readdirSync(media);
      },
    });
    const splits = dataset.accounts.splits;
    expect(seen).toHaveLength((splits.train ?? 0) + (splits.validation ?? 0));
    expect(training.result).toMatchObject(countNames(countParameters(shape, settings)));
    expect(moduleNames(shape)).toEqual(['down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj']);

    const judged = await evaluate({
      ...{ store: parts.store, python, warmParent: null, folder: join(folder, 'evaluate'), base, signal },
      ...{ dataset: dataset.files, adapter: training.adapter, parent: null, method: 'sft', spec: rules, threads: 1 },
      onProgress: () => undefined,
    });
    expect(judged).toMatchObject({ rows: splits.test, matchKind: 'exact', control: null });
    expect(judged.candidate.match?.n).toBe(splits.test);
    expect(judged.candidate.loss).toBeLessThan(judged.base.loss);
  }, 120_000);

  test('an image that is gone from the store is named before a trainer starts', async () => {
    const [shard] = filesOf('validation.safetensors');
    await getFolder(parts.store, { digest: '', files: shard ? [shard] : [] }, join(folder, 'one'), signal);
    const file = join(folder, 'one', 'validation.safetensors');
    await bringImages(parts.store, [file], signal);
    const [first = '', ...others] = await readImageDigests(file);
    const held = readFileSync(join(folder, 'one', 'media', first));
    // What a disk has spoiled is fetched again; what is whole is not.
    writeFileSync(join(folder, 'one', 'media', first), 'spoiled');
    await bringImages(parts.store, [file], signal);
    expect(readFileSync(join(folder, 'one', 'media', first))).toEqual(held);
    await parts.store.delete(keys.blob(others[0] as string));
    await bringImages(parts.store, [file], signal);
    rmSync(join(folder, 'one', 'media', others[0] as string));
    await expect(bringImages(parts.store, [file], signal)).rejects.toThrow(`Blob ${others[0]} is missing`);
  });

  const REFUSED: [string, Partial<SpecInput>, string][] = [
    ['packing', { train: { packing: true } }, '`train.packing` must be false'],
    ['streaming', { train: { streaming: true } }, '`train.streaming` must be false'],
    ['preferences', { train: { method: 'dpo' } }, '`train.method` must be `sft`'],
    ['a quantised base', { train: { tuning: 'qlora' } }, '`train.tuning` must be `lora` or `full`'],
    ['shared weights', { train: { strategy: 'fsdp', processes: 2 } }, '`train.strategy` must be `auto` or `ddp`'],
    ['random tokens', { train: { tokenDropout: 0.1 } }, '`train.tokenDropout` must be 0'],
    ['the gateway', { until: 'deploy' }, '`until` must be `register` or earlier'],
  ];

  test.each(REFUSED)('%s: refused with a reason', async (_, fields, sentence) => {
    const problems = await visionProblems(join(folder, 'seeing'), specOf(fields));
    expect(problems.map(({ path, message }) => `\`${path}\` ${message}`)).toEqual([expect.stringContaining(sentence)]);
    expect(await visionProblems(join(models, 'tiny'), specOf(fields))).toEqual([]);
  });
});

function countNames({ trainable, total }: { trainable: number; total: number }) {
  return { trainableParameters: trainable, totalParameters: total };
}
