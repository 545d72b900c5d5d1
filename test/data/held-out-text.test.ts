// Text of held-out rows in training rows: found by the stage as by looking at every pair of rows, and left out on request.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Winnow } from '../../src/data/near/winnow.ts';
import { RANGE_FILES } from '../../src/data/range/options.ts';
import { rowsOf } from '../../src/data/range/rows-files.ts';
import { findCandidates } from '../../src/data/resolve/held-out/candidates.ts';
import { findHeldOutText, type HeldOutTextFound } from '../../src/data/resolve/held-out/find.ts';
import { GramFilter } from '../../src/data/resolve/held-out/gram-filter.ts';
import { fetchIndexes } from '../../src/data/resolve/indexes.ts';
import { getBlob } from '../../src/storage/file-set.ts';
import { keys } from '../../src/storage/keys.ts';
import { type Cleaned, clean, createRandom, hostIn, readRows, smallRanges, temporaryFolder } from './given.ts';

const WORDS = 13;
const random = createRandom(7);
const pick = (n: number) => Math.floor(random() * n);
const wordsOf = (count: number, of: number) => Array.from({ length: count }, () => `w${pick(of)}`).join(' ');

/** Passages that a few rows or many hold, some of them a word too short. */
const PASSAGES = Array.from({ length: 60 }, (_, i) => ({
  text: wordsOf(i % 5 === 0 ? 12 : 13 + pick(20), 5000),
  share: i % 3 === 0 ? 0.05 : 0.004,
}));
const FILE = Array.from({ length: 900 }, (_, i) => {
  const own = PASSAGES.flatMap(({ text, share }) => (random() < share ? [text] : []));
  const completion = [wordsOf(30, 5000), ...own, wordsOf(5, 40)].join(i % 2 === 0 ? '. ' : ', ');
  return `${JSON.stringify({ prompt: `question ${i}?`, completion: i % 4 === 0 ? completion.toUpperCase() : completion })}\n`;
}).join('');

function gramsOf(row: unknown): Set<string> {
  const { messages } = row as { messages: { content: string }[] };
  const grams = new Set<string>();
  for (const { content } of messages) {
    const words = content.toLowerCase().match(/[a-z0-9]+/g) ?? [];
    for (let i = 0; i + WORDS <= words.length; i++) grams.add(words.slice(i, i + WORDS).join(' '));
  }
  return grams;
}

function countRows(trained: Set<string>[]): Map<string, number> {
  const rowsOf = new Map<string, number>();
  for (const grams of trained) for (const gram of grams) rowsOf.set(gram, (rowsOf.get(gram) ?? 0) + 1);
  return rowsOf;
}

/** The same by looking at every row. @param all what may be a template, if not what is trained on */
function judge({ rows }: Cleaned, all = rows.train) {
  const trained = rows.train.map(gramsOf);
  const rowsOf = countRows(all.map(gramsOf));
  const heldOut = [...rows.validation, ...rows.test].map(gramsOf);
  const isShared = (gram: string) => (rowsOf.get(gram) ?? 0) > 0 && (rowsOf.get(gram) ?? 0) <= 10;
  const shared = heldOut.filter((grams) => [...grams].some(isShared));
  const template = heldOut.filter((grams) => !shared.includes(grams) && [...grams].some((gram) => rowsOf.has(gram)));
  const leaking = new Set(shared.flatMap((grams) => [...grams].filter(isShared)));
  const trainRows = trained.filter((grams) => [...grams].some((gram) => leaking.has(gram))).length;
  return { words: WORDS, heldOut: heldOut.length, shared: shared.length, template: template.length, trainRows };
}

test('what is counted is what looking at every row finds, however the rows are cut', async () => {
  await using folder = await temporaryFolder();
  const whole = await clean(folder, { 'a.jsonl': FILE });
  const expected = judge(whole);
  expect(whole.resolution.leakage.heldOutText).toEqual({ ...expected, dropped: false });
  expect(expected.shared).toBeGreaterThan(5);
  expect(expected.template).toBeGreaterThan(5);
  expect(expected.trainRows).toBeGreaterThan(expected.shared / 2);
  const cut = await clean(folder, { 'a.jsonl': FILE }, {}, 'sft', { limits: smallRanges(20_000) });
  expect(cut.pieces.length).toBeGreaterThan(5);
  expect(cut.resolution.leakage).toEqual(whole.resolution.leakage);
});

test('fingerprints leave out no row that shares text', async () => {
  await using folder = await temporaryFolder();
  const cleaned = await clean(folder, { 'a.jsonl': FILE }, {}, 'sft', { limits: smallRanges(20_000) });
  const { pieces, resolution, folder: made } = cleaned;
  const { store, signal } = hostIn(folder.path);
  const parts = resolution.fates.flatMap((file) => file.parts);
  const fates = new Uint8Array(Buffer.concat(await Promise.all(parts.map((part) => getBlob(store, part)))));
  const indexes = await fetchIndexes(store, pieces, made, signal);
  const input = { store, pieces, indexes, fates, words: WORDS, folder: made, signal, onRows: () => {} };
  const leaksOf = ({ eachLeak }: HeldOutTextFound) => {
    const rows: number[] = [];
    eachLeak((row) => rows.push(row));
    return rows;
  };
  const found = await findHeldOutText(input);
  expect(leaksOf(found).length).toBe(resolution.leakage.heldOutText?.trainRows);
  const inParts = await findHeldOutText({ ...input, printsMax: 1_000 });
  expect([inParts.counts, leaksOf(inParts)]).toEqual([found.counts, leaksOf(found)]);
  const { rows: candidates } = await findCandidates(input);
  const looked = Array.from(fates.keys()).filter(candidates.has).length;
  expect(looked).toBeLessThan(0.8 * fates.length);
  expect(looked).toBeGreaterThan(leaksOf(found).length);
  // As an earlier release cleaned them.
  const without = pieces.map((piece) => ({
    ...piece,
    files: { ...piece.files, files: piece.files.files.filter(({ path }) => path !== RANGE_FILES.prints) },
  }));
  const everyRow = await findHeldOutText({ ...input, pieces: without });
  expect([everyRow.counts, leaksOf(everyRow)]).toEqual([found.counts, leaksOf(found)]);
  await expect(findHeldOutText({ ...input, signal: AbortSignal.abort(new Error('stopped')) })).rejects.toThrow(
    'stopped',
  );
});

test('rows that the store gives with other bytes than they were cleaned to are refused', async () => {
  await using folder = await temporaryFolder();
  const { pieces, resolution, folder: made } = await clean(folder, { 'a.jsonl': FILE });
  const { store, signal } = hostIn(folder.path);
  const [fatesPart = ''] = resolution.fates[0]?.parts ?? [];
  const fates = await getBlob(store, fatesPart);
  const indexes = await fetchIndexes(store, pieces, made, signal);
  const [part = ''] = pieces.flatMap(({ files }) => rowsOf(files).parts);
  const text = Buffer.from(await getBlob(store, part)).toString('latin1');
  await store.put(keys.blob(part), Buffer.from(text.replaceAll(' w1', ' w2'), 'latin1'));
  const input = { store, pieces, indexes, fates, words: WORDS, folder: made, signal, onRows: () => {} };
  await expect(findHeldOutText(input)).rejects.toMatchObject({ kind: 'checkpoint_corrupt' });
});

test.each([8, 9, 13])(
  'every %i words in a row hold a run that is chosen by them alone, in texts of any length',
  (n) => {
    const winnow = new Winnow(n);
    for (const length of [n - 1, n, n + 1, 300, 9_000]) {
      // Of few words, so that runs are often the same.
      const words = Int32Array.from({ length }, () => pick(length % 2 === 0 ? 3 : 2 ** 31));
      winnow.clear();
      winnow.read(words);
      const chosen = new Map<number, number>();
      for (let i = 0; i < winnow.count; i++) chosen.set(winnow.starts[i] as number, winnow.prints[i] as number);
      for (let from = 0; from + n <= length; from++) {
        const own = new Winnow(n);
        own.read(words.subarray(from, from + n));
        const inside = [...Array(n - winnow.runWords + 1).keys()].map((i) => chosen.get(from + i));
        if (own.count !== 1 || !inside.includes(own.prints[0])) expect({ from, own, inside }).toBe('one of these');
      }
      expect(winnow.count > 0).toBe(length >= n);
      expect(winnow.count).toBeLessThan(0.45 * length + n);
    }
  },
);

test('on request such training rows are left out with a code, and then no held-out row shares text', async () => {
  await using folder = await temporaryFolder();
  const whole = await clean(folder, { 'a.jsonl': FILE });
  const { heldOutText } = whole.resolution.leakage;
  const left = await clean(folder, { 'a.jsonl': FILE }, { decontaminate: { heldOut: 'quarantine' } });
  expect(left.resolution.leakage.heldOutText).toEqual({ ...heldOutText, dropped: true });
  expect(left.accounts.dropped).toEqual({ contaminated: heldOutText?.trainRows });
  const quarantine = await readRows<{ message: string }>(join(left.folder, '0'), 'quarantine');
  expect(quarantine.length).toBe(heldOutText?.trainRows);
  expect(quarantine[0]?.message).toContain('shares many words in a row with one that is held out');
  expect(judge(whole, whole.rows.train).trainRows).toBeGreaterThan(0);
  expect(judge(left, whole.rows.train).trainRows).toBe(0);
  const off = await clean(folder, { 'a.jsonl': FILE }, { decontaminate: { heldOut: 'off' } });
  expect(off.resolution.leakage.heldOutText).toBeNull();
});

test('a filter that is too small says yes too often and never no', () => {
  const hashes = Array.from({ length: 50_000 }, () => [(random() * 2 ** 32) | 0, (random() * 2 ** 32) | 0] as const);
  const [inside, outside] = [hashes.slice(0, 25_000), hashes.slice(25_000)];
  const wrong = (grams: number) => {
    const filter = GramFilter.sizedFor(grams);
    for (const hash of inside) filter.add(...hash);
    expect(inside.every((hash) => filter.has(...hash))).toBe(true);
    return outside.filter((hash) => filter.has(...hash)).length / outside.length;
  };
  expect(wrong(25_000)).toBeLessThan(0.03);
  expect(wrong(0)).toBeGreaterThan(0.1);
});
