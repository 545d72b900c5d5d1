// Whole sources through the stage: columns, sensitive columns, rules and images, and what is told of their rows.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { getBlob } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { chatLine, clean, temporaryFolder } from './given.ts';

const SECRET = 'anna@example.org';
const PIXEL = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64');

const lines = (rows: object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const times = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i));

describe('columns', () => {
  test('a CSV file by templates; what is missing has its line, and nothing of a sensitive column is told', async () => {
    await using folder = await temporaryFolder();
    const rows = times(30, (i) => `q${i},${i === 4 ? '' : `a${i}`},${SECRET}`);
    const csv = ['question,reply,mail', ...rows, 'q,"broken', ''].join('\n');
    const uri = await folder.write('faq.csv', csv);
    const columns = { user: 'Question: {{question}}', assistant: '{{reply}}' };
    const { kept, quarantine } = await clean(folder, {}, { sources: [{ uri, columns }], dropColumns: ['mail'] });
    expect(kept[0]?.messages).toEqual([
      { role: 'user', content: 'Question: q0' },
      { role: 'assistant', content: 'a0' },
    ]);
    expect(quarantine.map(({ line, code, path, message }) => ({ line, code, path, message }))).toEqual([
      {
        line: 6,
        code: 'missing_field',
        path: 'reply',
        message:
          'faq.csv line 6: reply is empty, and `columns.assistant` needs it; fill it, or write {{reply?}} where it may be empty',
      },
      expect.objectContaining({ line: 32, code: 'csv_unterminated_quote' }),
    ]);
    expect(JSON.stringify([kept, quarantine])).not.toContain('example.org');
    expect(quarantine[0]?.preview).toContain('"question":"q4"');
    expect(quarantine[1]?.preview).not.toContain('broken');
  });

  test('a table that lacks a column is refused with those that it has', async () => {
    await using folder = await temporaryFolder();
    const uri = await folder.write('faq.csv', 'q,a\nx,y\n');
    const columns = { user: '{{question}}', assistant: '{{a}}' };
    await expect(clean(folder, {}, { sources: [{ uri, columns }] })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: 'faq.csv has no column `question`, which `columns.user` names; it has q, a. Correct `columns`.',
    });
  });

  test('sources with columns, turns and roles of their own make one dataset', async () => {
    await using folder = await temporaryFolder();
    const dialogs = lines(
      times(20, (i) => ({
        d: [
          { who: 'me', says: `q${i}` },
          { who: 'it', says: `a${i}` },
        ],
      })),
    );
    const sources = [
      {
        uri: await folder.write('a.jsonl', lines(times(20, (i) => ({ x: i, y: { z: [i] } })))),
        columns: { user: '{{x}}', assistant: '{{y.z[0]}}' },
      },
      {
        uri: await folder.write('b.jsonl', dialogs),
        columns: { messages: '{{d}}' },
        turns: { role: 'who', content: 'says' },
        roles: { me: 'user', it: 'assistant' } as const,
      },
    ];
    const { kept, accounts } = await clean(folder, {}, { sources });
    expect(accounts).toMatchObject({ rowsIn: 40, kept: 40, dropped: {} });
    expect(kept.map(({ messages }) => messages.map(({ content }) => content).join()).slice(18, 22)).toEqual([
      '18,18',
      '19,19',
      'q0,a0',
      'q1,a1',
    ]);
  });
});

describe('rules', () => {
  const rows = [...times(30, (i) => chatLine(`q${i}`, `a${i}`)), chatLine(7, 'seven '), chatLine('', 'none')].join(
    '\n',
  );

  test('mended rows are kept and counted, others are quarantined', async () => {
    await using folder = await temporaryFolder();
    const { kept, accounts, pieces } = await clean(
      folder,
      { 'a.jsonl': rows },
      { rules: { wrong_type: 'fix', trailing_space: 'warn' } },
    );
    expect(accounts).toMatchObject({ rowsIn: 32, kept: 31, dropped: { empty_content: 1 } });
    expect(kept.at(-1)?.messages.map(({ content }) => content)).toEqual(['7', 'seven ']);
    expect(pieces[0]?.counts).toMatchObject({
      fixed: { wrong_type: 1 },
      warned: { trailing_space: 1 },
      firstBadLines: { trailing_space: [31], empty_content: [32] },
    });
  });

  test('an error fails the stage once all rows were read', async () => {
    await using folder = await temporaryFolder();
    await expect(
      clean(folder, { 'a.jsonl': rows }, { rules: { wrong_type: 'error', empty_content: 'error' } }),
    ).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringMatching(
        /^Rows break rules that `data\.rules` make errors: wrong_type 1 .*31.*, empty_content 1 .*32/,
      ),
    });
  });
});

describe('texts', () => {
  test('rows without turns stay texts, each a group of its own', async () => {
    await using folder = await temporaryFolder();
    const { kept, accounts } = await clean(folder, {
      'a.jsonl': lines([...times(30, (i) => ({ text: `text ${i}` })), { text: 'text 3' }]),
    });
    expect(accounts).toMatchObject({ rowsIn: 31, kept: 30, duplicates: 1 });
    expect(kept[3]).toMatchObject({ text: 'text 3', src: { source: 0, line: 4 } });
    expect(new Set(kept.map(({ group }) => group)).size).toBe(30);
  });
});

describe('images', () => {
  test('rows hold references, the images are blobs; a missing one is seen when it is there', async () => {
    await using folder = await temporaryFolder();
    await folder.write('x.gif', PIXEL);
    const row = (i: number, image: string) => ({
      image,
      conversations: [
        { from: 'human', value: `<image>q${i}` },
        { from: 'gpt', value: `a${i}` },
      ],
    });
    const file = lines([
      ...times(30, (i) => row(i, i % 2 ? 'x.gif' : `data:image/gif;base64,${PIXEL.toString('base64')}`)),
      row(30, 'late.gif'),
    ]);
    const first = await clean(folder, { 'a.jsonl': file });
    expect(first.accounts).toMatchObject({ rowsIn: 31, kept: 30, dropped: { media_missing: 1 } });
    expect(first.quarantine[0]?.message).toMatch(
      /^a\.jsonl line 31: images\[0\] cannot be read: Source \S+late\.gif is not there/,
    );
    const media = first.kept.flatMap((kept) => kept.media ?? []);
    expect(new Set(media.map((image) => JSON.stringify(image))).size).toBe(1);
    expect(media).toHaveLength(30);
    const store = createFileStore(join(folder.path, 'store'));
    expect(await getBlob(store, media[0]?.digest as string)).toEqual(PIXEL);
    expect(JSON.stringify(first.kept)).not.toContain('base64');
    await folder.write('late.gif', PIXEL);
    expect((await clean(folder, { 'a.jsonl': file })).accounts).toMatchObject({ kept: 31, dropped: {} });
    expect(await readdir(folder.path)).toContain('late.gif');
  });
});
