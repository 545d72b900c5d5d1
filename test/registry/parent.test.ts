// Which version a run continues, and which it cannot.
import { beforeEach, describe, expect, test } from 'vitest';
import type { Version } from '../../src/contracts/records.ts';
import { parseSpec, type Recipe } from '../../src/contracts/spec.ts';
import { ancestryOf, findVersion, fixParent, parentOf, parentProblems } from '../../src/registry/parent.ts';
import { moveAlias, registerVersion } from '../../src/registry/versions.ts';
import { runIdFor } from '../../src/storage/run-id.ts';
import { createMemoryStore } from '../support/memory-store.ts';
import { draftVersion } from '../support/versions.ts';

const BASE = 'b'.repeat(64);
let store = createMemoryStore();

const recipe = (train: object = {}): Recipe =>
  parseSpec({ name: 'support', data: { sources: [{ uri: 'rows.jsonl' }] }, until: 'register', train }).train;

async function registered(more: Partial<Version> = {}, train: object = {}): Promise<Version> {
  const digest = String(Math.random()).slice(2, 10).padStart(64, '0');
  const files = { digest, files: [] };
  const version = await registerVersion(
    store,
    draftVersion({ digest, files, base: { name: 'tiny', digest: BASE }, recipe: recipe(train), ...more }),
  );
  await moveAlias(store, { model: 'support', alias: 'champion', to: version.version, by: 'test', why: 'test' });
  return version;
}

beforeEach(() => {
  store = createMemoryStore();
});

describe('what it names', () => {
  test('a number and an alias name a version; nothing else does', async () => {
    const [first, second] = [await registered(), await registered()];
    expect(await findVersion(store, 'support@1')).toEqual(first);
    expect(await findVersion(store, 'support@champion')).toEqual(second);
    for (const name of ['support@3', 'support@production'])
      await expect(findVersion(store, name)).rejects.toThrow(
        `There is no version ${name}: support has versions up to 2 and the aliases champion.`,
      );
    await expect(findVersion(store, 'other@1')).rejects.toMatchObject({
      kind: 'bad_request',
      problems: [{ path: 'train.from', message: expect.stringContaining('there is no model other') }],
    });
    for (const from of ['support', 'support@', '@3', 'support@3@4', 'Support@3'])
      expect(() => recipe({ from })).toThrow('must be a version of a model, such as support@3 or support@champion');
  });

  test('an alias that moves changes nothing of a run that has begun', async () => {
    const first = await registered();
    const request = { run: 'r-1', from: 'support@champion' };
    expect(await parentOf(store, request)).toEqual(first);
    const second = await registered();
    expect(await parentOf(store, request)).toEqual(first);
    expect(await parentOf(store, { ...request, run: 'r-2' })).toEqual(second);
    // Nor of one that was promised a version before its start.
    await fixParent(store, { ...request, run: 'r-3' }, first);
    expect(await parentOf(store, { ...request, run: 'r-3' })).toEqual(first);
    expect(await parentOf(store, { run: 'r-4', from: null })).toBeNull();
  });

  test('the id of a run follows the version, not its name', () => {
    const spec = (from: string | null) =>
      parseSpec({ name: 'support', data: { sources: [{ uri: 'rows.jsonl' }] }, train: { from } });
    const [byNumber, byAlias] = [spec('support@1'), spec('support@champion')];
    expect(runIdFor(byAlias, ['sha256:x'], BASE, 'd1')).toBe(runIdFor(byNumber, ['sha256:x'], BASE, 'd1'));
    expect(runIdFor(byAlias, ['sha256:x'], BASE, 'd2')).not.toBe(runIdFor(byAlias, ['sha256:x'], BASE, 'd1'));
    expect(runIdFor(spec(null), ['sha256:x'], BASE)).not.toBe(runIdFor(byAlias, ['sha256:x'], BASE, 'd1'));
  });

  test('a version is followed back to its base model, across models', async () => {
    const first = await registered();
    const link = ({ model, version, digest }: Version) => ({ model, version, digest });
    const second = await registered({ parent: link(first) });
    const third = await registered({ model: 'polite', parent: link(second) });
    expect((await ancestryOf(store, third)).map(({ model, version }) => `${model}@${version}`)).toEqual([
      'polite@1',
      'support@2',
      'support@1',
    ]);
  });
});

describe('what cannot continue it', () => {
  const problems = (parent: Version, train: object, base = BASE) => parentProblems(parent, recipe(train), base);

  test('the same adapter on the same base can, with other dropout, data and method', async () => {
    const parent = await registered({}, { lora: { rank: 8, targets: ['q_proj', 'v_proj'], dropout: 0.1 } });
    const lora = { rank: 8, targets: ['v_proj', 'q_proj'] };
    expect(problems(parent, { lora })).toEqual([]);
    expect(problems(parent, { method: 'dpo', tuning: 'qlora', lora })).toEqual([]);
  });

  test('every field that shapes the adapter must be the version’s', async () => {
    const parent = await registered({}, { lora: { rank: 8 } });
    expect(problems(parent, { lora: { rank: 16, alpha: 8, dora: true, firstLayer: 1 } })).toEqual([
      {
        path: 'train.lora.rank',
        message: 'must be 8, as support@1 has it, which `train.from` continues, got 16',
      },
      ...['alpha', 'firstLayer', 'dora'].map((field) => expect.objectContaining({ path: `train.lora.${field}` })),
    ]);
  });

  test('another base model, a whole model, a reward model', async () => {
    const [adapter, whole] = [await registered(), await registered({ peft: 'none' }, { tuning: 'full' })];
    const reward = await registered({}, { method: 'reward' });
    const only = (found: ReturnType<typeof problems>) => {
      expect(found.map(({ path }) => path)).toEqual(['train.from']);
      return found[0]?.message;
    };
    expect(only(problems(adapter, {}, 'c'.repeat(64)))).toMatch(
      /was trained on another base model: tiny with digest b/,
    );
    expect(only(problems(adapter, { tuning: 'full' }))).toMatch(/^names support@1, which is an adapter/);
    expect(only(problems(whole, {}))).toMatch(/^names support@2, which is a whole model/);
    expect(only(problems(adapter, { method: 'reward' }))).toMatch(/writes; .* leave `train\.from` out/);
    expect(only(problems(reward, {}))).toMatch(/is a reward model; only `train\.method: reward` continues one/);
    expect(problems(whole, { tuning: 'full' })).toEqual([]);
    expect(problems(reward, { method: 'reward' })).toEqual([]);
  });
});
