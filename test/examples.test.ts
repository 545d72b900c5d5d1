// The examples: their specs parse, their generators give the same bytes twice, and the pipeline counts what they say is in them.
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { Accounts, Row, Split } from '../src/contracts/rows.ts';
import { parseSpec } from '../src/contracts/spec.ts';
import { finishAccounts } from '../src/data/accounts.ts';
import { takeSnapshot } from '../src/data/snapshot.ts';
import { cleanSnapshot, type Folder, hostIn, temporaryFolder } from './data/given.ts';

const EXAMPLES = resolve('examples');
const PYTHON = resolve('.anneal/venv/bin/python');
const GENERATORS = {
  'home-assistant': 'make_home_assistant.py',
  'icd-chapters': 'make_icd_chapters.py',
  preferences: 'make_preferences.py',
};
type Example = keyof typeof GENERATORS;

const run = promisify(execFile);
let folder: Folder;

beforeAll(async () => {
  folder = await temporaryFolder();
  // Another hash seed gives Python's sets another order.
  for (const round of ['first', 'second'])
    for (const [name, script] of Object.entries(GENERATORS))
      await run(PYTHON, [join(EXAMPLES, script), join(folder.path, round, name)], {
        env: { PYTHONHASHSEED: round === 'first' ? '1' : '2' },
      });
});

afterAll(async () => {
  await folder[Symbol.asyncDispose]();
});

test('what the README shows as a spec is one', async () => {
  const blocks = [...(await readFile('README.md', 'utf8')).matchAll(/```yaml\n(.*?)```/gs)].map(([, text]) =>
    parse(text ?? ''),
  );
  expect(blocks.length).toBeGreaterThan(3);
  // A block may leave out what another has said.
  const given = { name: 'readme', data: { sources: [{ uri: 'rows.jsonl' }] } };
  for (const { data, ...block } of blocks)
    expect(
      () => parseSpec({ ...given, ...block, data: { ...given.data, ...data } }),
      JSON.stringify(block),
    ).not.toThrow();
});

const readSpec = async (name: string) => parse(await readFile(join(EXAMPLES, `${name}.yaml`), 'utf8'));
const readJson = async (...path: string[]) => JSON.parse(await readFile(join(...path), 'utf8'));

async function cleanExample(
  name: Example,
  change: object = {},
): Promise<{ accounts: Accounts; rows: Record<Split, Row[]> }> {
  const spec = parseSpec({ ...(await readSpec(name)), ...change });
  const host = {
    ...hostIn(folder.path),
    sources: { examplesFolder: join(folder.path, 'first'), readS3: async () => null },
  };
  const snapshot = await takeSnapshot(host.store, spec, host.sources, () => {});
  const { accounts, rows } = await cleanSnapshot(folder, spec, snapshot, host);
  return { accounts: finishAccounts(accounts, []), rows };
}

/** A sweep and a table of prices, read by other tests. */
const NO_SPECS = ['prices', 'sweep'];

test('every spec in the folder parses', async () => {
  const names = (await readdir(EXAMPLES)).filter((name) => name.endsWith('.yaml')).map((name) => name.slice(0, -5));
  expect(names.sort()).toEqual([...Object.keys(GENERATORS), ...NO_SPECS].sort());
  for (const name of names.filter((one) => !NO_SPECS.includes(one)))
    expect(parseSpec(await readSpec(name)).name).toBe(name);
});

test('the demo in the folder is the demo in the code', async () => {
  expect(parseSpec(await readSpec('home-assistant'))).toEqual(parseSpec({}));
});

describe.each(Object.keys(GENERATORS) as Example[])('%s', (name) => {
  test('is made of the same bytes each time', async () => {
    const files = (await readdir(join(folder.path, 'first', name))).sort();
    expect(files).toContain('truth.json');
    for (const file of files) {
      const [first, second] = await Promise.all(
        ['first', 'second'].map((round) => readFile(join(folder.path, round, name, file))),
      );
      expect(first?.equals(second ?? Buffer.alloc(0)), file).toBe(true);
    }
  });

  test('is counted by the pipeline as its maker counts it, in total and by file', async () => {
    const truth = await readJson(folder.path, 'first', name, 'truth.json');
    const { accounts } = await cleanExample(name);
    const { rowsIn, kept, duplicates, dropped } = accounts;
    expect({ rowsIn, kept, duplicates, dropped }).toEqual({
      rowsIn: truth.rowsIn,
      kept: truth.kept,
      duplicates: truth.duplicates,
      dropped: truth.dropped,
    });
    const byFile = Object.fromEntries(accounts.bySource.map(({ uri, ...book }) => [uri.split('/').at(-1), book]));
    if (truth.files !== undefined) expect(byFile).toEqual(truth.files);
  });
});

test('home-assistant has about 1,000 rows to train on, 200 to test with, and as many of each intent', async () => {
  const { rows } = await cleanExample('home-assistant');
  expect(rows.train.length).toBeGreaterThan(950);
  expect(rows.test.length).toBeGreaterThanOrEqual(200);
  expect(rows.validation.length).toBeGreaterThan(25);
  const counts = new Map<string, number>();
  let withoutSlots = 0;
  for (const row of Object.values(rows).flat()) {
    const answer = JSON.parse(row.messages.at(-1)?.content ?? '');
    counts.set(answer.intent, (counts.get(answer.intent) ?? 0) + 1);
    if (Object.keys(answer.slots).length === 0) withoutSlots++;
  }
  expect(counts.size).toBe(12);
  for (const [intent, count] of counts) expect(count, intent).toBeGreaterThanOrEqual(60);
  // A model that never sees an empty list of slots invents some.
  expect(withoutSlots).toBeGreaterThan(80);
});

test('icd-chapters is balanced, and no category lies in two splits', async () => {
  const { rows } = await cleanExample('icd-chapters');
  const all = Object.values(rows).flat();
  const chapters = new Map<string, number>();
  for (const { messages } of all) {
    const chapter = messages.at(-1)?.content ?? '';
    chapters.set(chapter, (chapters.get(chapter) ?? 0) + 1);
  }
  expect([...chapters.values()]).toEqual(Array.from({ length: 21 }, () => 67));
  expect(rows.test.length).toBeGreaterThan(180);
  const groups = Object.values(rows).map((split) => new Set(split.map((row) => row.group)));
  for (const [i, one] of groups.entries())
    for (const other of groups.slice(i + 1)) expect([...one].filter((group) => other.has(group))).toEqual([]);
});

test('preferences has pairs for 60 scored rows, and judged answers of both labels, alone and as chats', async () => {
  const { rows } = await cleanExample('preferences');
  expect(rows.test.length).toBeGreaterThanOrEqual(60);
  const truth = await readJson(folder.path, 'first', 'preferences', 'truth.json');
  const answers = { sources: [{ uri: 'example:preferences/answers.jsonl' }] };
  const { accounts } = await cleanExample('preferences', { data: answers, train: { method: 'kto' } });
  const { rowsIn, kept, duplicates, dropped } = accounts;
  expect({ rowsIn, kept, duplicates, dropped }).toEqual(truth.answers);
  const { data } = await readSpec('preferences');
  const sources = data.sources.map((source: object) => ({ ...source, shape: 'preference' }));
  const chats = await cleanExample('preferences', { data: { ...data, sources }, train: { method: 'sft' } });
  expect(chats.rows.train[0]?.messages.at(-1)?.role).toBe('assistant');
});
