// Who stays, over all ranges: weights, pins, near duplicates across splits, evaluations, gates; and the books balance whatever comes.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Snapshot } from '../../src/contracts/records.ts';
import { assertBalanced } from '../../src/data/accounts.ts';
import { cleanPieces } from '../../src/data/preparation/clean.ts';
import { planRanges } from '../../src/data/preparation/plan.ts';
import { createKeyTable } from '../../src/data/resolve/key-table.ts';
import { recordPins } from '../../src/data/resolve/pins.ts';
import { decideTakes } from '../../src/data/resolve/weights.ts';
import { takeSnapshot } from '../../src/data/snapshot.ts';
import { canonicalJson } from '../../src/storage/digest.ts';
import { keys } from '../../src/storage/keys.ts';
import { PART_BYTES_MAX } from '../../src/storage/object-store.ts';
import {
  type Cleaned,
  chatLine,
  clean,
  cleanSnapshot,
  createRandom,
  hostIn,
  smallRanges,
  specOf,
  temporaryFolder,
} from './given.ts';

const many = (n: number, from = 0) =>
  Array.from({ length: n }, (_, i) => chatLine(`question ${i + from}`, `answer ${i + from}`)).join('\n');
const questions = (cleaned: Cleaned, split: 'train' | 'validation' | 'test') =>
  cleaned.rows[split].map((row) => row.messages[0]?.content ?? '');

describe('weights', () => {
  const files = { 'a.jsonl': many(300), 'b.jsonl': many(100, 1000) };
  const weigh = (folder: string, a: object | null, b: object | null) => ({
    sources: [
      { uri: join(folder, 'a.jsonl'), weight: a as never },
      { uri: join(folder, 'b.jsonl'), weight: b as never },
    ],
  });

  test('a ratio leaves rows out until the share is right, the same ones however the ranges are cut', async () => {
    await using folder = await temporaryFolder();
    const weights = weigh(folder.path, { ratio: 0.5 }, null);
    const cleaned = await clean(folder, files, weights);
    expect(cleaned.accounts.bySource.map(({ kept, leftOut }) => ({ kept, leftOut }))).toEqual([
      { kept: 100, leftOut: 200 },
      { kept: 100, leftOut: undefined },
    ]);
    expect(cleaned.accounts).toMatchObject({ rowsIn: 400, kept: 200, leftOut: 200 });
    const cut = await clean(folder, files, weights, 'sft', { limits: smallRanges(9_000) });
    expect(cut.rows).toEqual(cleaned.rows);
  });

  test('a cap takes so many, and a repeat fills the training split only', async () => {
    await using folder = await temporaryFolder();
    const cleaned = await clean(folder, files, weigh(folder.path, { cap: 50 }, { repeat: 3 }));
    const { accounts, rows } = cleaned;
    expect(accounts.bySource[0]).toMatchObject({ kept: 50, leftOut: 250 });
    const ofB = (split: 'train' | 'test') => rows[split].filter(({ src }) => src.source === 1).map(({ id }) => id);
    expect(ofB('train')).toHaveLength(3 * new Set(ofB('train')).size);
    expect(ofB('test')).toHaveLength(new Set(ofB('test')).size);
    expect(accounts.repeated).toBe((2 * ofB('train').length) / 3);
    expect(accounts.splits.train).toBe(rows.train.length);
    assertBalanced(accounts);
  });

  test('where every source has a ratio the scarcest decides; too few rows are told', () => {
    const of = (weight: object | null) => ({ weight, name: 's' }) as never;
    expect(decideTakes([of({ ratio: 0.75 }), of({ ratio: 0.25 })], [900, 100]).takes).toEqual([300, 100]);
    expect(decideTakes([of({ ratio: 0.5 }), of(null)], [10, 100])).toEqual({
      takes: [10, 100],
      notes: ['s has 10 rows, fewer than the 100 of its ratio 0.5; all are taken.'],
    });
  });

  test.each([
    [{ ratio: 0.5, cap: 3 }, /must have one of `ratio`, `repeat` and `cap`/],
    [{ repeat: 101 }, /weight\.repeat/],
  ])('%o is refused', (weight, sentence) => {
    expect(() => specOf({ sources: [{ uri: 'x', weight }, { uri: 'y' }] })).toThrow(sentence);
  });

  test('ratios that cannot be are refused', () => {
    const specWith = (a: number, b: number) =>
      specOf({ sources: [a, b].map((ratio) => ({ uri: 'x', weight: { ratio } })) });
    expect(() => specWith(0.5, 0.4)).toThrow(/add up to 0\.9; where every source has one they must add up to 1/);
    expect(specWith(0.5, 0.5).data.sources).toHaveLength(2);
  });
});

describe('pins', () => {
  test('a group once in test stays there, whatever share and salt become', async () => {
    await using folder = await temporaryFolder();
    const uri = await folder.write('a.jsonl', many(300));
    const host = hostIn(folder.path);
    const make = async (split: object, name = 'test') => {
      const spec = { ...specOf({ split }, [uri]), name };
      const snapshot = await takeSnapshot(host.store, spec, host.sources, () => {});
      const cleaned = await cleanSnapshot(folder, spec, snapshot, host);
      const dataset = createHash('sha256').update(JSON.stringify(split)).digest('hex');
      await recordPins(host.store, { spec, snapshot: snapshot.digest, dataset }, cleaned.resolution);
      return cleaned;
    };
    const first = await make({ test: 0.2 });
    const later = await make({ test: 0.01, salt: 'another' });
    expect(questions(first, 'test').length).toBeGreaterThan(40);
    expect(questions(later, 'test')).toEqual(expect.arrayContaining(questions(first, 'test')));
    for (const question of questions(first, 'validation')) expect(questions(later, 'train')).not.toContain(question);
    const stranger = await make({ test: 0.01, salt: 'another' }, 'other');
    expect(questions(stranger, 'test').length).toBeLessThan(20);
    // Made again of the same data and rules it is what it was, ledger or not.
    const again = await make({ test: 0.2 });
    expect(again.plan.pins).toHaveLength(1);
  });

  test('a group that was moved to test stays there when there are enough others', async () => {
    await using folder = await temporaryFolder();
    const host = hostIn(folder.path);
    const make = async (rows: string, dataset: string) => {
      const spec = specOf({ split: { test: 0.01, validation: 0 } }, [await folder.write('a.jsonl', rows)]);
      const snapshot = await takeSnapshot(host.store, spec, host.sources, () => {});
      const cleaned = await cleanSnapshot(folder, spec, snapshot, host);
      await recordPins(
        host.store,
        { spec, snapshot: snapshot.digest, dataset: dataset.repeat(64) },
        cleaned.resolution,
      );
      return cleaned;
    };
    const small = await make(many(10), 'a');
    expect(small.notes).toContain('The split test would have been empty; one group (1 rows) of train was moved to it.');
    const large = await make(many(600), 'b');
    expect(questions(large, 'test')).toEqual(expect.arrayContaining(questions(small, 'test')));
    expect((await make(many(10), 'a')).rows).toEqual(small.rows);
    expect(await host.store.list(keys.pins('test'))).toHaveLength(3);
  });
});

describe('what must not be trained on', () => {
  const words = (seed: number, n = 60) => {
    const random = createRandom(seed);
    return Array.from({ length: n }, () => `w${Math.floor(random() * 5_000)}`).join(' ');
  };

  test('near duplicates go, and those of held-out rows leave train under their own code', async () => {
    await using folder = await temporaryFolder();
    const rows = Array.from({ length: 200 }, (_, i) => [
      chatLine(`${i} ${words(i)}`, `so ${words(i + 1_000)}`),
      chatLine(`again ${i} ${words(i)}`, `so ${words(i + 1_000)}`),
    ]);
    const files = {
      'a.jsonl': rows.map(([first]) => first).join('\n'),
      'b.jsonl': rows.map(([, second]) => second).join('\n'),
    };
    const whole = await clean(folder, files, { nearDuplicates: { action: 'drop' }, split: { test: 0.3 } });
    const { accounts, resolution } = whole;
    expect(accounts.nearDuplicates).toBeGreaterThan(50);
    expect(accounts.dropped.contaminated).toBeGreaterThan(20);
    expect(accounts.kept + (accounts.nearDuplicates ?? 0) + (accounts.dropped.contaminated ?? 0)).toBe(400);
    expect(resolution.leakage).toMatchObject({ sharedGroups: 0, nearCrossing: 0 });
    expect(whole.rows.train.length + whole.rows.test.length + whole.rows.validation.length).toBe(accounts.kept);

    const cut = await clean(folder, files, { nearDuplicates: { action: 'drop' }, split: { test: 0.3 } }, 'sft', {
      limits: smallRanges(40_000),
    });
    expect(cut.rows).toEqual(whole.rows);
    const warned = await clean(folder, files, { nearDuplicates: { action: 'warn' }, split: { test: 0.3 } });
    expect(warned.accounts.kept).toBe(400);
    expect(warned.resolution.leakage.nearCrossing).toBe(accounts.dropped.contaminated);
  });

  test('rows of an evaluation leave train, the quarantine names it, and what is held out stays', async () => {
    await using folder = await temporaryFolder();
    const asked = [3, 11, 40].map((i) => ({ question: words(i), answer: 'x' }));
    const suite = await folder.write('suite.jsonl', asked.map((row) => JSON.stringify(row)).join('\n'));
    const lines = Array.from({ length: 60 }, (_, i) => chatLine(words(i), `answer ${i}`)).join('\n');
    const data = { decontaminate: { against: [suite] }, split: { test: 0.1, validation: 0 } };
    const { accounts, rows, quarantine, resolution } = await clean(folder, { 'a.jsonl': lines }, data);
    const inTest = rows.test.filter(({ src }) => [4, 12, 41].includes(src.line)).length;
    expect(accounts.dropped).toEqual({ contaminated: 3 - inTest });
    expect(3 - inTest).toBeGreaterThan(0);
    expect(resolution.leakage.evals).toEqual([{ name: 'suite.jsonl', rows: 3 - inTest }]);
    expect(quarantine).toEqual([]);
    expect(rows.train.some(({ src }) => [4, 12, 41].includes(src.line))).toBe(false);
  });

  test('rows go where their source says, and rows given for training are never tested on', async () => {
    await using folder = await temporaryFolder();
    const copied = `${many(100)}\n${many(3, 500)}`;
    const uris = [await folder.write('train.jsonl', copied), await folder.write('test.jsonl', many(10, 500))];
    const host = hostIn(folder.path);
    const spec = specOf({}, uris);
    const { sources } = await takeSnapshot(host.store, spec, host.sources, () => {});
    const given = sources.map((source, i) => ({ ...source, split: i === 0 ? ('train' as const) : ('test' as const) }));
    const snapshot: Snapshot = { digest: 'e'.repeat(64), sources: given };
    await host.store.putIfAbsent(keys.snapshot(snapshot.digest), Buffer.from(canonicalJson(snapshot)));
    const { rows, accounts } = await cleanSnapshot(folder, spec, snapshot, host);
    expect(accounts.bySource.map(({ duplicates }) => duplicates)).toEqual([3, 0]);
    expect(rows.test.map(({ src }) => src.source)).toEqual(Array.from({ length: 10 }, () => 1));
    expect(rows.train.length + rows.validation.length).toBe(100);
    expect(rows.validation.length).toBeGreaterThan(0);
  });
});

test('what one run has cleaned the next one finds, unless the rules of its rows are others', async () => {
  await using folder = await temporaryFolder();
  const files = { 'a.jsonl': many(100), 'b.jsonl': many(100, 500) };
  const limits = smallRanges(3_000);
  const pieces = async () => (await hostIn(folder.path).store.list('preparation/pieces/')).length;
  const first = await clean(folder, files, {}, 'sft', { limits });
  const made = await pieces();
  expect(made).toBe(first.plan.ranges.flat().length);
  const longer = await clean(
    folder,
    { ...files, 'c.jsonl': many(10, 900) },
    { maxLength: 8, gates: { minRows: 7 } },
    'sft',
    { limits },
  );
  expect(longer.accounts.kept).toBe(210);
  expect(await pieces()).toBe(made + 1);
  await clean(folder, files, { system: 'S' }, 'sft', { limits });
  expect(await pieces()).toBe(2 * made + 1);
});

describe('gates', () => {
  const dirty = `${many(90)}\n${'{\n'.repeat(4)}${chatLine('a', 7)}\n${chatLine('b', 7)}`;

  test('too many dropped rows: how many, what for, where, and what to do', async () => {
    await using folder = await temporaryFolder();
    await expect(clean(folder, { 'a.jsonl': dirty }, { gates: {} })).rejects.toMatchObject({
      kind: 'data_rejected',
      message:
        '6 of 96 rows (6.3 %) were dropped, more than the 5 % of `data.gates.maxQuarantined`; most for invalid_json ' +
        '(4: a.jsonl line 91, a.jsonl line 92, a.jsonl line 93). Mend the sources, or raise the gate.',
    });
    expect((await clean(folder, { 'a.jsonl': dirty }, { gates: { maxQuarantined: 0.07 } })).accounts.kept).toBe(90);
  });

  test('too few rows, and a rule that is an error', async () => {
    await using folder = await temporaryFolder();
    await expect(clean(folder, { 'a.jsonl': many(90) }, { gates: { minRows: 91 } })).rejects.toThrow(
      '90 rows are kept, fewer than the 91 of `data.gates.minRows`; add rows, or lower the gate.',
    );
    await expect(
      clean(folder, { 'a.jsonl': dirty }, { gates: { maxQuarantined: 1 }, rules: { wrong_type: 'error' } }),
    ).rejects.toThrow(/wrong_type 2 \(first lines a\.jsonl line 95, a\.jsonl line 96\)/);
  });

  test('what filters take out on request is no fault, and blocked texts are', async () => {
    await using folder = await temporaryFolder();
    const files = { 'a.jsonl': `${many(40)}\n${many(40).replaceAll('question', 'a much longer question')}` };
    const { accounts } = await clean(folder, files, { gates: {}, filters: { minChars: 30 } });
    expect(accounts.dropped.too_short).toBe(40);
    const secret = { 'b.jsonl': `${many(40)}\n${chatLine('mail?', 'write to jane.doe@acme-corp.com')}` };
    await expect(clean(folder, secret, { privacy: { types: { email: 'block' } } })).rejects.toThrow(
      /^1 rows hold personal data or secrets that `data\.privacy` blocks \(found: email 1\)/,
    );
  });

  test.each([
    ['its head alone, where the last record ends in it', 20_000, 1],
    ['all, where the last record needs it', 1_000_000, 2],
  ])('of the part behind a range is read %s', async (_which, chars, times) => {
    await using folder = await temporaryFolder();
    const rows = Math.ceil(36_000_000 / chars);
    const row = (i: number) => chatLine('question', `answer ${i} ${'a'.repeat(chars)}`);
    const uri = await folder.write('a.jsonl', Array.from({ length: rows }, (_, i) => row(i)).join('\n'));
    const host = hostIn(folder.path);
    const spec = specOf({}, [uri]);
    const snapshot = await takeSnapshot(host.store, spec, host.sources, () => {});
    const input = { spec, snapshot: snapshot.digest };
    const plan = await planRanges(host, input, { ...smallRanges(PART_BYTES_MAX), align: PART_BYTES_MAX });
    const read: string[] = [];
    const store = {
      ...host.store,
      get: (key: string, into?: Uint8Array) => {
        read.push(key);
        return host.store.get(key, into);
      },
    };
    const kept: number[] = [];
    const { parts = [], heads = [] } = snapshot.sources[0] ?? {};
    for (const pieces of plan.ranges)
      kept.push(...(await cleanPieces({ ...host, store }, input, plan, pieces)).map(({ counts }) => counts.kept));
    expect(kept.reduce((sum, n) => sum + n)).toBe(rows);
    expect(plan.ranges).toHaveLength(2);
    const wasRead = (digest = '') => read.filter((key) => key === keys.blob(digest)).length;
    expect([parts, heads].map((digests) => digests.map(wasRead))).toEqual([[1, times], [1]]);
  });

  test('more data than one run takes is refused before anything is read', async () => {
    await using folder = await temporaryFolder();
    const host = hostIn(folder.path);
    const spec = specOf({}, [await folder.write('a.jsonl', many(300))]);
    const { digest } = await takeSnapshot(host.store, spec, host.sources, () => {});
    const limits = { ...smallRanges(1_000), count: 5 };
    await expect(planRanges(host, { spec, snapshot: digest }, limits)).rejects.toThrow(
      /^The sources have \d+ bytes together, more than the 10000 that one run takes; name fewer of them\.$/,
    );
  });
});

test('whatever the data, the cuts and the rules, the books balance and the result is the same', async () => {
  await using folder = await temporaryFolder();
  for (let seed = 1; seed <= 3; seed++) {
    const random = createRandom(seed);
    const pick = (n: number) => Math.floor(random() * n);
    const line = () => (random() < 0.15 ? '{"question":' : chatLine(`q ${pick(60)}`, `a ${pick(4)}`));
    const file = () => Array.from({ length: 20 + pick(120) }, line).join('\n');
    const cell = () => (random() < 0.05 ? 'a "stray' : `"two\n""lines"" ${pick(40)}"`);
    const table = ['question,answer', ...Array.from({ length: 120 }, () => `q ${pick(60)},${cell()}`)].join('\r\n');
    const uris = [`${seed}-a.jsonl`, `${seed}-b.jsonl`, `${seed}-c.csv`];
    const weights = [{ cap: 1 + pick(60) }, { repeat: 1 + pick(4) }, random() < 0.5 ? { ratio: 0.3 } : null];
    const sources = uris.map((name, i) => ({ uri: join(folder.path, name), weight: weights[i] as never }));
    const files = Object.fromEntries(uris.map((name) => [name, name.endsWith('.csv') ? table : file()]));
    const whole = await clean(folder, files, { sources });
    const limits = smallRanges(1_500 + pick(3_000));
    const cut = await clean(folder, files, { sources }, 'sft', { limits, partitionRows: 1 + pick(50) });
    assertBalanced(whole.accounts);
    expect(Object.values(whole.rows).flat()).toHaveLength(whole.accounts.kept + (whole.accounts.repeated ?? 0));
    expect(cut.accounts).toEqual(whole.accounts);
    expect(cut.resolution.rows).toBe(whole.resolution.rows);
    expect(cut.kept).toEqual(whole.kept);
    expect(cut.quarantine).toEqual(whole.quarantine);
  }
});

test('the key table holds what was put in, and nothing else', () => {
  const random = createRandom(5);
  const key = () => Buffer.from(Array.from({ length: 8 }, () => Math.floor(random() * 3)));
  const table = createKeyTable(8, 0);
  const truth = new Map<string, number>();
  for (let i = 0; i < 5_000; i++) {
    const bytes = key();
    const name = bytes.toString('hex');
    expect(table.get(bytes, 0)).toBe(truth.get(name) ?? -1);
    expect(table.add(bytes, 0, i % 200)).toBe(!truth.has(name));
    if (!truth.has(name)) truth.set(name, i % 200);
    else if (i % 3 === 0) {
      table.set(bytes, 0, 7);
      truth.set(name, 7);
    }
  }
  expect(table.size).toBe(truth.size);
});
