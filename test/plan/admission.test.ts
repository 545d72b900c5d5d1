// Before a run's first training: real probes of a real model, on a host whose control group says how little memory there is.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { locateLocal } from '../../src/cli/drill/local.ts';
import type { Dataset } from '../../src/contracts/records.ts';
import type { Recipe } from '../../src/contracts/spec.ts';
import { type AdmissionOptions, requireMemory } from '../../src/plan/admission.ts';
import { putFolder } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { keys } from '../../src/storage/keys.ts';
import { openBaseModel } from '../../src/trainer/base-model.ts';
import { writeShard } from '../support/shard.ts';
import { recipeOf } from './given.ts';

const { python, models } = locateLocal();
const FORM = { rows: 64, tokens: 32, labels: 16, vocabulary: 49_000 };
const MIB = 1024 ** 2;

describe.skipIf(process.platform !== 'linux' || !existsSync(join(models, 'tiny')))('admission', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'anneal-admission-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  async function given(limitMib: number, fields: Partial<Recipe>): Promise<AdmissionOptions & { phases: string[] }> {
    writeShard(join(folder, 'data', 'train.safetensors'), FORM);
    const group = { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/memory.max': `${limitMib * MIB}\n` };
    for (const [path, text] of Object.entries(group)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    const store = createFileStore(join(folder, 'store'));
    const { rows, tokens, labels, vocabulary: _vocabulary } = FORM;
    const train = { rows, tokens: rows * tokens, trainableTokens: rows * labels, longest: tokens };
    const files = await putFolder(store, join(folder, 'data'));
    const phases: string[] = [];
    return {
      ...{ store, python, warmParent: null, state: join(folder, 'state'), run: 'r', systemRoot: folder, phases },
      base: await openBaseModel('tiny', models),
      dataset: { digest: files.digest, files, tokens: { splits: { train } } } as unknown as Dataset,
      recipe: recipeOf({ microBatch: 64, epochs: 1000, threads: 1, device: 'cpu', ...fields }),
      signal: new AbortController().signal,
      onProgress: (phase) => void phases.push(phase),
    };
  }

  test('what is measured not to fit is refused before it begins, with the micro-batch that would fit', async () => {
    const options = await given(900, {});
    await expect(requireMemory(options)).rejects.toMatchObject({
      kind: 'out_of_memory',
      message: expect.stringMatching(
        /`train.microBatch` 64 training needs \d.* GiB \(measured by short steps\).* 0\.88 GiB.*`train\.microBatch: \d+` with `train\.accumulation: \d+`/,
      ),
    });
    expect(options.phases).toEqual(['measure memory, 32 rows', 'measure memory, 64 rows']);
    expect(readdirSync(join(folder, 'state', 'gpu', 'runs', 'r', 'probe'))).not.toContain('steps');
  }, 120_000);

  test('what fits is let through, and where there is plenty of room or the run is short nothing is measured', async () => {
    const tight = await given(1_800, {});
    await requireMemory(tight);
    expect(tight.phases).toHaveLength(2);
    const roomy = await given(8_000, {});
    await requireMemory(roomy);
    const short = await given(1_800, { epochs: 3 });
    await requireMemory(short);
    expect([roomy.phases, short.phases]).toEqual([[], []]);
  }, 120_000);

  test('a run that has trained already, or whose spec says so, is not held up', async () => {
    await requireMemory(await given(1, { probe: 'off' }));
    const options = await given(1, {});
    await expect(requireMemory(options)).rejects.toMatchObject({ kind: 'out_of_memory' });
    expect(options.phases).toEqual([]);
    await options.store.putIfAbsent(keys.claim('r', 1), Buffer.from('{}'));
    await requireMemory(options);
  });
});
