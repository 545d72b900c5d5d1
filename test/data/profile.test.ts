// The profile of rows: cut into ranges it says what the whole says, and what stands often is found in bounded memory.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import type { Profile } from '../../src/contracts/profile.ts';
import { ProfileSchema } from '../../src/contracts/profile.ts';
import type { CleanedPiece } from '../../src/contracts/ranges.ts';
import type { Content } from '../../src/data/mapping.ts';
import { bucketStart, countLength, quantileOf } from '../../src/data/profile/log-buckets.ts';
import { createProfile, emptyProfile, mergeProfiles } from '../../src/data/profile/profile.ts';
import { addCounts, wholeSample } from '../../src/data/profile/row-sample.ts';
import { loadProfile } from '../../src/data/profile/stored.ts';
import { putFolder } from '../../src/storage/file-set.ts';
import { createMemoryStore } from '../support/memory-store.ts';
import { brokenLine, type GivenRow, givenChats, profileOf, rangeProfileOf } from './card-given.ts';
import { temporaryFolder } from './given.ts';

test('ranges cut anywhere merge into the profile of the whole, also where the sample is full', () => {
  const rows = [...givenChats(1_900), ...givenChats(700, { seed: 3, source: 1 })];
  const whole = rangeProfileOf(rows);
  for (const cuts of [[1], [700, 1_300], [1_899, 1_900, 2_599], [5, 6, 7, 2_000]]) {
    const parts = [0, ...cuts].map((from, i) => rangeProfileOf(rows.slice(from, cuts[i] ?? rows.length)));
    const merged = mergeProfiles(parts);
    expect(merged).toEqual(whole);
    expect(mergeProfiles([emptyProfile(), ...parts])).toEqual(whole);
    expect(ProfileSchema.parse(JSON.parse(JSON.stringify(merged)))).toEqual(merged);
  }
  const sample = wholeSample(whole.sample);
  expect(whole.rows).toBe(2_600);
  expect(sample.rows).toBeGreaterThan(512);
  expect(sample.rows).toBeLessThanOrEqual(1_024);
});

test('an answer that stands often is found with its share, also where only a sample is looked at', () => {
  const often = {
    messages: [
      { role: 'user' as const, content: 'Why?' },
      { role: 'assistant' as const, content: 'So.' },
    ],
  };
  const rows = givenChats(6_000).map((row, i) => (i % 5 === 0 ? { ...row, content: often } : row));
  const sample = wholeSample(profileOf(rows).sample);
  const [common] = Object.values(sample.answers).sort((a, b) => b.rows - a.rows);
  expect(common?.text).toBe('So.');
  expect((common?.rows ?? 0) / sample.rows).toBeCloseTo(0.2, 1);
});

test('quantiles are right to within a bucket', () => {
  const histogram: number[] = [];
  for (let n = 1; n <= 1_000; n++) countLength(histogram, n);
  for (const share of [0.5, 0.95, 0.99]) {
    const found = quantileOf(histogram, share) as number;
    expect(found / (share * 1_000)).toBeGreaterThan(1 / bucketStart(1));
    expect(found / (share * 1_000)).toBeLessThan(bucketStart(1));
  }
  expect(quantileOf([], 0.5)).toBe(null);
});

const profileOne = (content: Content) => {
  const row: GivenRow = { content, line: 1, source: 0 };
  return profileOf([row]);
};
const chat = (question: string, answer: string, system?: string): Content => ({
  messages: [
    ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
    { role: 'user', content: question },
    { role: 'assistant', content: answer },
  ],
});

test.each<[string, Content, (profile: Profile) => number]>([
  ['an answer that is its question', chat('Yes?', 'Yes?'), (p) => p.answerIsQuestion],
  ['an empty system message', chat('a', 'b', ' '), (p) => p.emptySystem],
  ['text in the wrong encoding', chat('CafÃ© au lait', 'b'), (p) => wholeSample(p.sample).mojibake],
  ['a code block that was cut', chat('a', 'Try:\n```ts\nlet a = 1;'), (p) => wholeSample(p.sample).openFences],
  ['a refusal', chat('a', "I'm sorry, but I can't help with that."), (p) => wholeSample(p.sample).refusals],
  ['a raw text', { text: 'Once upon a time.' }, (p) => p.rows],
])('%s is counted', (_name, content, count) => {
  expect(count(profileOne(content))).toBe(1);
});

test.each([
  chat('How do I say sorry?', 'Say: I apologise.'),
  chat('Code?', '```ts\nlet a = 1;\n```'),
  chat('Où est le café ?', 'À côté de la gare.'),
])('a good chat is not taken for a bad one', (content) => {
  const { mojibake, openFences, refusals } = wholeSample(profileOne(content).sample);
  expect([mojibake, openFences, refusals]).toEqual([0, 0, 0]);
});

test('personal data is not shown: not in system messages, not in answers', () => {
  const profile = rangeProfileOf(
    Array.from({ length: 3 }, (_, i) => ({
      ...{ source: 0, line: i + 1 },
      content: chat('Who?', 'Write to jo.miller@example.com.', 'You work for kim@example.com.'),
    })),
  );
  expect(Object.values(wholeSample(profile.sample).answers)).toEqual([{ rows: 3, text: 'Write to <EMAIL>.' }]);
  expect(JSON.stringify(profile)).not.toContain('example.com');
});

test('languages are told of the whole, from what its ranges left', async () => {
  const store = createMemoryStore();
  await using folder = await temporaryFolder();
  const german = 'Wie kann ich mein Passwort zurücksetzen, wenn ich keine E-Mail mehr bekomme?';
  const english = 'How can I reset my password when the message never arrives at my address?';
  const pieces: CleanedPiece[] = [];
  for (const [source, questions] of [[german, english], [german], ['?']].entries()) {
    const rows = questions.map((question, line) => ({ content: chat(question, question), line, source }));
    await folder.write('profile.json', JSON.stringify(rangeProfileOf(rows)));
    pieces.push({ files: await putFolder(store, folder.path) } as CleanedPiece);
  }
  const { levels } = (await loadProfile(store, pieces)).sample;
  expect(levels.reduce((sum, { languages }) => addCounts(sum, languages), {})).toEqual({ de: 2, en: 1, und: 1 });
  expect(levels.flatMap(({ starts }) => starts)).toEqual([]);
});

test('the first three examples of a code stay, in the order of the ranges', () => {
  const lines = [5, 9, 12, 30].map((line) => brokenLine('invalid_json', line, 'the row is not valid JSON', ''));
  const parts = [createProfile(), createProfile()];
  lines.forEach((line, i) => void parts[i < 2 ? 0 : 1]?.addDropped(line));
  const { examples } = mergeProfiles(parts.map((part) => part.toJson()));
  expect(examples.invalid_json?.map(({ line }) => line)).toEqual([5, 9, 12]);
});

/** Collects garbage at once. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

test('of a large row no more is held than is shown, and of thousands of columns the first two hundred', async () => {
  const profile = createProfile();
  const held: WeakRef<object>[] = [];
  for (let line = 1; line <= 20; line++) {
    const source = Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`c${i}`, 'x']));
    held.push(new WeakRef(source));
    const place = { source: 0, line, id: String(line).padStart(32, '0'), jsonBytes: 90, sourceBytes: 20_000 };
    profile.add(
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: `b${line}` },
        ],
      },
      place,
      () => source,
    );
  }
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  expect(held.filter((one) => one.deref() !== undefined)).toHaveLength(0);
  const { fields } = wholeSample(profile.toJson().sample);
  const names = Array.from({ length: 2_000 }, (_, i) => `c${i}:string`).sort();
  expect(Object.keys(fields).sort()).toEqual(names.slice(0, 200));
  expect(new Set(Object.values(fields))).toEqual(new Set([20]));
});
