// From files to splits: every row has a fate, copies and groups stay together, and the same input gives the same bytes.
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { AccountsSchema, QuarantinedRowSchema, type Row, RowSchema } from '../../src/contracts/rows.ts';
import { assertBalanced, finishAccounts, requireTokenisedRows } from '../../src/data/accounts.ts';
import { RANGE_LIMITS } from '../../src/data/preparation/plan.ts';
import { takeRejected } from '../../src/data/preparation/rejects.ts';
import { type Cleaned, chatLine, clean, dataSpec, readRows, smallRanges, temporaryFolder } from './given.ts';

const many = (n: number, from = 0) =>
  Array.from({ length: n }, (_, i) => chatLine(`question ${i + from}`, `answer ${i + from}`)).join('\n');
const splitsById = (cleaned: Cleaned) =>
  new Map(Object.entries(cleaned.rows).flatMap(([split, rows]) => rows.map((row) => [row.id, split] as const)));

describe('a messy input', () => {
  const files = {
    'chat.jsonl': [
      chatLine('a', '1'),
      '{',
      chatLine('b', 2),
      '',
      chatLine('c', '3'),
      chatLine('a', '1'),
      many(40),
    ].join('\n'),
    'questions.csv': 'question,answer\r\na,1\r\nd,4\r\nd\r\n"e",""\r\n',
    'instructions.json': '[{"instruction":"d","output":"4"},\n{"instruction":"f","output":"6"},\n{"instruction":"g"}]',
  };

  test('every row is kept, a duplicate or dropped, and the books say which', async () => {
    await using folder = await temporaryFolder();
    const { accounts, kept, quarantine, rows } = await clean(folder, files);

    expect(AccountsSchema.parse(accounts)).toEqual({
      rowsIn: 52,
      kept: 44,
      duplicates: 3,
      dropped: { invalid_json: 1, wrong_type: 1, csv_missing_columns: 1, empty_content: 1, missing_field: 1 },
      splits: { train: rows.train.length, validation: rows.validation.length, test: rows.test.length },
      bySource: [
        {
          uri: join(folder.path, 'chat.jsonl'),
          rowsIn: 45,
          kept: 42,
          duplicates: 1,
          dropped: { invalid_json: 1, wrong_type: 1 },
        },
        {
          uri: join(folder.path, 'questions.csv'),
          rowsIn: 4,
          kept: 1,
          duplicates: 1,
          dropped: { csv_missing_columns: 1, empty_content: 1 },
        },
        {
          uri: join(folder.path, 'instructions.json'),
          rowsIn: 3,
          kept: 1,
          duplicates: 1,
          dropped: { missing_field: 1 },
        },
      ],
    });
    assertBalanced(accounts);
    expect(kept).toHaveLength(44);
    expect(
      quarantine
        .map((row) => QuarantinedRowSchema.parse(row))
        .map(({ source, line, code }) => `${source}:${line} ${code}`),
    ).toEqual([
      'chat.jsonl:2 invalid_json',
      'chat.jsonl:3 wrong_type',
      'questions.csv:4 csv_missing_columns',
      'questions.csv:5 empty_content',
      'instructions.json:3 missing_field',
    ]);
    expect(quarantine[1]).toMatchObject({
      path: 'messages[1].content',
      message: 'chat.jsonl line 3: messages[1].content must be text, found the number 2; put it into quotes',
      preview: chatLine('b', 2),
    });
    expect(quarantine[2]).toMatchObject({ expected: '2 columns', found: '1 column' });
  });

  test('the first copy is kept, also across files and shapes', async () => {
    await using folder = await temporaryFolder();
    const { kept } = await clean(folder, files);
    const placeOf = (question: string) =>
      kept.filter((row) => row.messages[0]?.content === question).map((row) => row.src);
    expect(placeOf('a')).toEqual([{ source: 0, line: 1 }]);
    expect(placeOf('d')).toEqual([{ source: 1, line: 3 }]);
  });

  test('rows have the form that the contract says, and their id is the digest of their content', async () => {
    await using folder = await temporaryFolder();
    const { kept, folder: output } = await clean(folder, files, { system: 'S' });
    for (const row of kept) {
      expect(RowSchema.parse(row)).toEqual(row);
      expect(Object.keys(row)).toEqual(['id', 'messages', 'group', 'src']);
      expect(row.messages[0]).toEqual({ role: 'system', content: 'S' });
      expect(row.id).toBe(
        createHash('sha256')
          .update(`"messages":${JSON.stringify(row.messages)}`)
          .digest('hex')
          .slice(0, 32),
      );
    }
    expect(await readFile(join(output, '0', 'train.jsonl'), 'utf8')).toMatch(/\}\n$/);
  });

  test('many small sources are no range for one worker alone', async () => {
    await using folder = await temporaryFolder();
    const whole = await clean(folder, files);
    const limits = { ...RANGE_LIMITS, pieces: 1 };
    const cut = await clean(folder, files, {}, 'sft', { limits });
    expect(cut.plan.ranges).toHaveLength(Object.keys(files).length);
    expect(cut.resolution.rows).toBe(whole.resolution.rows);
  });

  test('however the sources are cut into ranges, the rows are the same, in the same order and under the same digest', async () => {
    await using folder = await temporaryFolder();
    const whole = await clean(folder, files);
    expect(whole.plan.ranges).toHaveLength(1);
    for (const bytes of [400, 2_000]) {
      const cut = await clean(folder, files, {}, 'sft', { limits: smallRanges(bytes), partitionRows: 10 });
      expect(cut.plan.ranges.length).toBeGreaterThan(2_000 / bytes);
      expect(cut.rows).toEqual(whole.rows);
      expect(cut.accounts).toEqual(whole.accounts);
      expect(cut.resolution.rows).toBe(whole.resolution.rows);
      expect(cut.quarantine).toEqual(whole.quarantine);
      expect(cut.notes).toEqual(whole.notes);
    }
  });

  test('the delimiter of a CSV file is told', async () => {
    await using folder = await temporaryFolder();
    expect((await clean(folder, files)).notes).toEqual(['questions.csv: CSV with the delimiter ",".']);
  });
});

describe('splits', () => {
  test('rows that are added, before or behind, move none that are there', async () => {
    await using folder = await temporaryFolder();
    const before = splitsById(await clean(folder, { 'a.jsonl': many(300) }));
    const after = splitsById(
      await clean(folder, { 'b.jsonl': `${many(300, 1000)}\n${many(300)}\n${many(300, 2000)}` }),
    );
    expect(before.size).toBe(300);
    expect(after.size).toBe(900);
    for (const [id, split] of before) expect(after.get(id)).toBe(split);
  });

  test('another salt is another split', async () => {
    await using folder = await temporaryFolder();
    const files = { 'a.jsonl': many(300) };
    const one = splitsById(await clean(folder, files));
    const two = splitsById(await clean(folder, files, { split: { salt: 'other' } }));
    expect([...one].filter(([id, split]) => two.get(id) !== split).length).toBeGreaterThan(0);
  });

  test('groups never cross, whether by a field or by the first user message', async () => {
    await using folder = await temporaryFolder();
    const row = (i: number) =>
      JSON.stringify({ question: `Where  is ${i % 40}?`, answer: `there ${i}`, ticket: `t${i % 30}`, by: i });
    const files = { 'a.jsonl': Array.from({ length: 400 }, (_, i) => row(i)).join('\n') };
    const splitsOf = (cleaned: Cleaned, key: (row: Row) => string) => {
      const found = new Map<string, Set<string>>();
      for (const [split, rows] of Object.entries(cleaned.rows))
        for (const r of rows) found.set(key(r), (found.get(key(r)) ?? new Set()).add(split));
      return found;
    };
    const byMessage = splitsOf(await clean(folder, files), (r) => r.messages[0]?.content ?? '');
    expect(byMessage.size).toBe(40);
    expect([...byMessage.values()].filter((splits) => splits.size > 1)).toEqual([]);
    const byTicket = splitsOf(
      await clean(folder, files, { groupBy: 'ticket', split: { test: 0.3 } }),
      (r) => `t${Number(r.messages[1]?.content.slice(6)) % 30}`,
    );
    expect(byTicket.size).toBe(30);
    expect([...byTicket.values()].filter((splits) => splits.size > 1)).toEqual([]);
  });

  test('case and white space make no other group, and a row without the field falls back to its message', async () => {
    await using folder = await temporaryFolder();
    const lines = [
      { question: 'Where is it?', answer: '1' },
      { question: ' where\n IS it? ', answer: '2', ticket: null },
      { question: 'Where is it?', answer: '3', ticket: 7 },
      { question: 'Else', answer: '4', ticket: '7' },
    ].map((line) => JSON.stringify(line));
    const { kept, notes } = await clean(
      folder,
      { 'a.jsonl': lines.join('\n') },
      { groupBy: 'ticket', split: { validation: 0 } },
    );
    const [one, two, three, four] = kept.map((row) => row.group);
    expect(one).toBe(two);
    expect(three).toBe(four);
    expect(one).not.toBe(three);
    expect(notes).toContain('2 rows have no field `ticket`; their first user message groups them.');
  });

  test('few groups still fill every split, and train keeps one', async () => {
    await using folder = await temporaryFolder();
    for (const n of [3, 4, 5, 8]) {
      const { accounts, rows } = await clean(
        folder,
        { 'a.jsonl': many(n) },
        { split: { test: 0.01, validation: 0.01 } },
      );
      expect(Object.values(accounts.splits).every((count) => count > 0)).toBe(true);
      expect(accounts.splits).toEqual({
        train: rows.train.length,
        validation: rows.validation.length,
        test: rows.test.length,
      });
      assertBalanced(accounts);
    }
  });

  test('fewer groups than splits are rejected, with the counts and what to do', async () => {
    await using folder = await temporaryFolder();
    await expect(clean(folder, { 'a.jsonl': many(2) })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringMatching(
        /^No row is left for the split validation \(train 1, validation 0, test 1; 2 rows read, 2 kept.*\); add rows, or lower `data.split`/,
      ),
    });
  });
});

describe('rejections', () => {
  test('no usable row: the counts and the first reason', async () => {
    await using folder = await temporaryFolder();
    await expect(clean(folder, { 'a.jsonl': '{"body":"x"}\n{"body":"y"}\n{' })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringMatching(
        /^No row can be trained on \(3 rows read, 0 kept, 0 duplicates, dropped: unknown_shape 2, invalid_json 1\).* The first: a\.jsonl line 1: the fields \(body\)/,
      ),
    });
  });

  test('a header without rows', async () => {
    await using folder = await temporaryFolder();
    await expect(clean(folder, { 'a.csv': 'question,answer\n' })).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringContaining('0 rows read'),
    });
  });

  test('nesting that V8 reads but cannot write is a row’s fault, not the run’s', async () => {
    await using folder = await temporaryFolder();
    const deep = `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}}}]}`;
    const { quarantine } = await clean(folder, { 'a.jsonl': `${deep}\n${many(50)}` });
    expect(quarantine).toMatchObject([
      { line: 1, code: 'wrong_type', message: 'a.jsonl line 1: the row is nested too deeply; flatten it' },
    ]);
  });

  test('a cancelled preprocess ends with the reason', async () => {
    await using folder = await temporaryFolder();
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(clean(folder, { 'a.jsonl': many(50) }, {}, 'sft', { signal })).rejects.toThrow('enough');
  });
});

describe('the tokeniser’s rejects', () => {
  test('enter quarantine and books, those of repeated rows once, and the sums still agree', async () => {
    await using folder = await temporaryFolder();
    const files = { 'a.jsonl': many(60), 'b.jsonl': `${many(60, 100)}\n{` };
    const sources = [
      { uri: join(folder.path, 'a.jsonl'), weight: { repeat: 3 } },
      { uri: join(folder.path, 'b.jsonl') },
    ];
    const { accounts, snapshot, rows } = await clean(folder, files, { sources });
    const fromA = rows.train.findIndex((row) => row.src.source === 0);
    const fromB = rows.test.findIndex((row) => row.src.source === 1);
    const reject = (split: 'train' | 'test', index: number, tokens: number) => ({
      ...{ split, index, code: 'too_long', message: `the row has ${tokens} tokens, the limit is 256`, tokens },
      ...{ src: rows[split][index]?.src, preview: JSON.stringify(rows[split][index]?.messages) },
    });
    const path = join(folder.path, 'rejected.jsonl');
    const copies = [reject('train', fromA, 300), reject('train', fromA, 300), reject('train', fromA, 300)];
    const lines = [...copies, reject('test', fromB, 400)].map((line) => `${JSON.stringify(line)}\n`);
    await writeFile(path, lines.join(''));

    const taken = await takeRejected(path, join(folder.path, 'quarantine.jsonl'), snapshot);
    expect(taken).toEqual({
      rejected: [
        { source: 0, split: 'train', code: 'too_long', rows: 1, copies: 3 },
        { source: 1, split: 'test', code: 'too_long', rows: 1, copies: 1 },
      ],
      shortestTooLong: 300,
    });
    const finished = finishAccounts(accounts, [taken]);
    expect(finished).toMatchObject({ rowsIn: 121, kept: 118, dropped: { invalid_json: 1, too_long: 2 } });
    expect(finished.splits.train).toBe(rows.train.length - 3);
    expect(finished.bySource.map(({ kept }) => kept)).toEqual([59, 59]);
    const quarantine = await readRows<{ line: number; message: string }>(folder.path, 'quarantine');
    const line = rows.train[fromA]?.src.line;
    expect(quarantine).toHaveLength(2);
    expect(quarantine[0]).toMatchObject({
      line,
      message: `a.jsonl line ${line}: the row has 300 tokens, the limit is 256`,
    });
    for (const row of quarantine) expect(QuarantinedRowSchema.parse(row)).toEqual(row);
  });

  test('that empty a split reject the data', async () => {
    await using folder = await temporaryFolder();
    const { accounts } = await clean(folder, { 'a.jsonl': many(30) });
    const all = (split: 'train' | 'test' | 'validation', code: string) => {
      const rows = accounts.splits[split];
      return { source: 0, split, code, rows, copies: rows };
    };
    const finish = (...rejected: ReturnType<typeof all>[]) =>
      requireTokenisedRows(finishAccounts(accounts, [{ rejected }]), [{ shortestTooLong: 300 }], dataSpec({}).split);
    expect(() => finish(all('test', 'too_long'))).toThrow('No row is left for the split test');
    expect(() => finish(...(['train', 'test', 'validation'] as const).map((split) => all(split, 'too_long')))).toThrow(
      /^No row can be trained on \(30 rows read, 0 kept, 0 duplicates, dropped: too_long 30\).* The shortest that is too long has 300 tokens\.$/,
    );
  });

  test('sums that do not agree are a bug', async () => {
    await using folder = await temporaryFolder();
    const { accounts } = await clean(folder, { 'a.jsonl': many(30) });
    for (const wrong of [
      { ...accounts, rowsIn: 31 },
      { ...accounts, splits: { ...accounts.splits, train: 0 } },
      { ...accounts, leftOut: 1, rowsIn: 31 },
      { ...accounts, bySource: [] },
    ])
      expect(() => finishAccounts(wrong, [])).toThrow('The accounts of preprocess do not add up');
  });
});
