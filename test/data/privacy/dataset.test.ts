// What privacy, filters, near duplicates and contamination come to in a whole dataset: the books, and no value anywhere it must not be.
import { readdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import type { Row } from '../../../src/contracts/rows.ts';
import { addCounts } from '../../../src/data/accounts.ts';
import { type Cleaned, chatLine, clean, type Folder, readRows, smallRanges, temporaryFolder } from '../given.ts';

const filler = (i: number) =>
  `Question number ${'abcdefghij'[i % 10]}${'klmnopqrst'[Math.floor(i / 10)]} about gardens`;
const plain = Array.from({ length: 60 }, (_, i) => chatLine(filler(i), `Answer ${filler(i)}.`));

const MAIL = 'ann.smith@example.org';
const CARD = '4111 1111 1111 1111';
const SECRET = 'ghp_16C7e42F292c6912E7710c838347Ae178B4a';
const dirty = [
  ...plain,
  chatLine(`Write to ${MAIL}`, 'Done.'),
  chatLine(`Pay with ${CARD}`, `Charged ${CARD}.`),
  chatLine(`Push with ${SECRET}`, 'Pushed.'),
  `{"messages": "broken, mail ${MAIL}, card ${CARD}"}`,
  `{"messages": [{"role": "user", "content": "${MAIL}"`,
  `[{"role":"${MAIL}"}]`,
].join('\n');

const texts = ({ kept }: Cleaned): string => kept.map((row: Row) => JSON.stringify(row.messages)).join('\n');
const piiOf = ({ pieces }: Cleaned) => addCounts(pieces.map(({ counts }) => counts.pii));

/** All that a dataset leaves behind but the frozen source: rows, quarantine, and the objects of the ranges. */
async function outputs(folder: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return (await Promise.all(files.map((file) => readFile(join(file.parentPath, file.name), 'latin1')))).join('\n');
}

test('masked values stand nowhere in rows, quarantine, profile and messages; all is counted', async () => {
  await using folder = await temporaryFolder();
  const cleaned = await clean(folder, { 'a.jsonl': dirty }, { privacy: { action: 'mask' } });
  expect(cleaned.accounts).toMatchObject({ rowsIn: 66, kept: 63, duplicates: 0 });
  expect(piiOf(cleaned)).toEqual({ email: 1, card: 2, secret: 1 });
  expect(texts(cleaned)).toContain('Write to <EMAIL>');
  expect(texts(cleaned)).toContain('Charged <CARD>.');
  expect(cleaned.quarantine).toHaveLength(3);
  const left = `${await outputs(cleaned.folder)}${JSON.stringify(cleaned.pieces)}${JSON.stringify(cleaned.notes)}`;
  for (const value of [MAIL, CARD, SECRET]) expect(left.includes(value), value).toBe(false);
  expect(left).toContain('mail <EMAIL>, card <CARD>');
});

test('by default values stay and are counted, but previews never show them', async () => {
  await using folder = await temporaryFolder();
  const cleaned = await clean(folder, { 'a.jsonl': dirty });
  expect(piiOf(cleaned)).toEqual({ email: 1, card: 2, secret: 1 });
  expect(texts(cleaned)).toContain(MAIL);
  const shown = JSON.stringify(cleaned.quarantine);
  for (const value of [MAIL, CARD]) expect(shown.includes(value), value).toBe(false);
});

test('dropped rows are in the books, blocked ones fail the stage once all are counted', async () => {
  await using folder = await temporaryFolder();
  const dropped = await clean(folder, { 'a.jsonl': dirty }, { privacy: { types: { card: 'drop' } } });
  expect(dropped.accounts.dropped.pii_dropped).toBe(1);
  expect(dropped.quarantine.find(({ code }) => code === 'pii_dropped')?.preview).toContain('<CARD>');
  const blocked = clean(folder, { 'a.jsonl': dirty }, { privacy: { types: { card: 'block', secret: 'block' } } });
  await expect(blocked).rejects.toMatchObject({
    kind: 'data_rejected',
    message: expect.stringMatching(/^2 rows hold .*card 2.*secret 1/),
  });
});

test('cut into many ranges, the rows are the same', async () => {
  await using folder = await temporaryFolder();
  const data = { privacy: { action: 'mask' as const }, nearDuplicates: { action: 'drop' as const } };
  const whole = await clean(folder, { 'a.jsonl': dirty }, data);
  const cut = await clean(folder, { 'a.jsonl': dirty }, data, 'sft', { limits: smallRanges(1500) });
  expect(cut.plan.ranges.length).toBeGreaterThan(3);
  expect(cut.kept).toEqual(whole.kept);
  expect(piiOf(cut)).toEqual(piiOf(whole));
});

const STORY =
  'Once upon a time a small green frog lived beside a quiet pond in the middle of an old forest and every single evening it sang a song about the moon to all of its friends who listened from the reeds until the stars came out one by one';

test('of rows that are nearly the same the first stays, and the others are counted', async () => {
  await using folder = await temporaryFolder();
  const near = [STORY, `${STORY} above`, STORY.replace('Once', 'Twice')].map((story, i) =>
    chatLine(`Tell me story ${i}`, story),
  );
  const files = { 'a.jsonl': [...plain, ...near].join('\n') };
  const cleaned = await clean(folder, files, { nearDuplicates: { action: 'drop', threshold: 0.7 }, groupBy: null });
  expect(
    cleaned.accounts.kept + (cleaned.accounts.nearDuplicates ?? 0) + (cleaned.accounts.dropped.contaminated ?? 0),
  ).toBe(63);
  expect(cleaned.kept.filter((row) => JSON.stringify(row).includes('green frog'))).toHaveLength(1);
  const warned = await clean(folder, files, { nearDuplicates: { action: 'warn', threshold: 0.7 } });
  expect(warned.accounts.kept).toBe(63);
  expect(warned.resolution.sources[0]?.nearFound).toBe(2);
});

test('rows that hold a question of an evaluation suite are dropped, and the suite is named', async () => {
  await using folder = await temporaryFolder();
  const suite = await folder.write('exam.jsonl', JSON.stringify({ question: STORY, answer: 'yes' }));
  const rows = [...plain, chatLine('Tell me a story', STORY), chatLine(STORY.slice(0, 60), 'Go on.')];
  const cleaned = await clean(folder, { 'a.jsonl': rows.join('\n') }, { decontaminate: { against: [suite] } });
  expect(cleaned.accounts.dropped).toEqual({ contaminated: 1 });
  expect(cleaned.resolution.leakage.evals).toEqual([{ name: 'exam.jsonl', rows: 1 }]);
  expect(await readRows(join(cleaned.folder, '0'), 'quarantine')).toMatchObject([
    { code: 'contaminated', line: 61, message: expect.stringContaining('exam.jsonl') },
  ]);
});

test('length and language filters are in the books', async () => {
  await using folder = await temporaryFolder();
  const rows = [
    ...plain,
    chatLine('a', 'b'),
    chatLine(`Long ${'x '.repeat(400)}`, 'b'),
    chatLine(
      'Wie wird das Wetter morgen in den Bergen sein, kannst du mir das sagen?',
      'Morgen wird es in den Bergen regnen.',
    ),
  ];
  const filters = { minChars: 5, maxChars: 500, languages: ['en' as const] };
  const cleaned = await clean(folder, { 'a.jsonl': rows.join('\n') }, { filters });
  expect(cleaned.accounts.dropped).toMatchObject({ too_short: 1, too_long_text: 1, lang_excluded: 1 });
});

async function withPresidio<T>(use: (url: string) => Promise<T>): Promise<T> {
  const server = createServer(async (request, response) => {
    const { text } = (await json(request)) as { text: string[] };
    const find = (one: string) => {
      const start = one.indexOf('Ada Lovelace');
      return start === -1 ? [] : [{ entity_type: 'PERSON', start, end: start + 12, score: 0.9 }];
    };
    response.end(JSON.stringify(text.map(find)));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(null)));
  try {
    return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

async function cleanNames(folder: Folder, presidio: string): Promise<Cleaned> {
  const rows = [...plain, chatLine('Who was Ada Lovelace?', `Ada Lovelace; mail ${MAIL}`)];
  return await clean(folder, { 'a.jsonl': rows.join('\n') }, { privacy: { action: 'mask', presidio } });
}

test('names that Presidio finds are masked beside what we find; without it the stage fails and no row passes', async () => {
  await using folder = await temporaryFolder();
  const cleaned = await withPresidio((url) => cleanNames(folder, url));
  expect(piiOf(cleaned)).toEqual({ email: 1, person: 2 });
  expect(texts(cleaned)).toContain('Who was <PERSON>?');
  expect(texts(cleaned)).toContain('<PERSON>; mail <EMAIL>');
  await expect(cleanNames(folder, 'http://127.0.0.1:1')).rejects.toMatchObject({ kind: 'source_unavailable' });
});
