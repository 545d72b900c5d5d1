// What a user asks of data: a check of sources before a run, and the quarantine and the card of what a run made.
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ApplicationFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Parts } from '../../src/activities/parts.ts';
import { createPreprocessActivities } from '../../src/activities/preprocess.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import { takeSnapshot } from '../../src/data/snapshot.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';
import { createAnneal, lastObject } from '../support/anneal.ts';

const folder = mkdtempSync(join(tmpdir(), 'anneal-cli-data-'));
const state = join(folder, 'state');
const anneal = createAnneal({
  cwd: folder,
  // The store is read without asking Temporal.
  env: { ANNEAL_STATE: state, ANNEAL_STORE: 'file', ANNEAL_TEMPORAL_ADDRESS: '127.0.0.1:1', HOME: folder },
});
const fileUri = (name: string) => pathToFileURL(join(folder, name)).href;

const ANSWER = 'Your parcel has left our warehouse and should reach you at the address that you gave us within';
const chat = (question: string, answer: string) =>
  JSON.stringify({
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: answer },
    ],
  });
const LONG = Array.from({ length: 90 }, (_, i) => `rule${(i * 7919) % 97}`).join(' ');
const BROKEN = '{"messages": [broken, jo.miller@example.com';

function messyLines(): string[] {
  const lines = Array.from({ length: 60 }, (_, i) =>
    chat(
      `Where is parcel ${i}?`,
      `${i} ${ANSWER.split(' ')
        .slice(i % 9)
        .join(' ')} ${i * i}`,
    ),
  );
  lines[5] = BROKEN;
  lines[9] = lines[8] as string;
  lines[20] = '{"messages":[{"role":"user","content":42},{"role":"assistant","content":"x"}]}';
  lines[30] = chat('Write to jo.miller@example.com, please.', 'I will.');
  lines[40] = '';
  lines[50] = '{"messages": [broken again';
  lines[57] = chat('How do returns work?', LONG);
  lines[58] = chat('May I send it back?', `${LONG} Indeed.`);
  return lines;
}

beforeAll(() => {
  writeFileSync(join(folder, 'support.jsonl'), `${messyLines().join('\n')}\n`);
  writeFileSync(
    join(folder, 'faq.csv'),
    `question,answer\n${Array.from({ length: 30 }, (_, i) => `"What is ${i}?","It is ${i * i},\nas you know."`).join('\n')}\n"a" b,"c"\n`,
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

test('a check prints what is kept and dropped of each file and why, exactly, and needs no stack', async () => {
  const ended = await anneal([
    'data',
    'check',
    'support.jsonl',
    'faq.csv',
    '--json',
    '--set',
    'data.gates.maxQuarantined=0.1',
    '--card',
    'card.html',
  ]);
  expect(ended.stderr).toContain('card.html');
  expect(lastObject(ended)).toEqual({
    files: [
      {
        ...{ uri: fileUri('support.jsonl'), rowsIn: 59, kept: 55, duplicates: 1, nearDuplicates: 1 },
        dropped: { invalid_json: 2, wrong_type: 1 },
        pii: { email: 1 },
        firstBadLines: { invalid_json: [6, 51], wrong_type: [21] },
      },
      {
        ...{ uri: fileUri('faq.csv'), rowsIn: 31, kept: 30, duplicates: 0, nearDuplicates: 0 },
        ...{ dropped: { csv_stray_quote: 1 }, pii: {}, firstBadLines: { csv_stray_quote: [62] } },
      },
    ],
    total: {
      ...{ rowsIn: 90, kept: 85, duplicates: 1, nearDuplicates: 1 },
      ...{ dropped: { invalid_json: 2, wrong_type: 1, csv_stray_quote: 1 }, pii: { email: 1 } },
    },
  });
  expect(ended.code).toBe(0);
  expect(readFileSync(join(folder, 'card.html'), 'utf8')).toContain('PASS with warnings');
});

test('rows that a weight leaves out are counted too', async () => {
  const sources = [{ uri: 'support.jsonl', weight: { cap: 20 } }, { uri: 'faq.csv' }];
  const data = { sources, gates: { maxQuarantined: 0.1 } };
  writeFileSync(join(folder, 'capped.json'), JSON.stringify({ name: 'capped', data }));
  const { stdout } = await anneal(['data', 'check', '--spec', 'capped.json'], { COLUMNS: '120' });
  expect(stdout).toMatch(/support\.jsonl +59 +20 +1 +\d+ +35 +3 +1\n/);
});

test('a check that a gate would stop ends with 1 and the gate’s sentence; one without a source is wrong usage', async () => {
  const blocked = await anneal(['data', 'check', 'support.jsonl']);
  expect(blocked.code).toBe(1);
  expect(blocked.stdout).toContain('BLOCKED');
  expect(blocked.stdout).toContain('data.gates.maxQuarantined');
  expect(blocked.stdout).toContain('lines 6, 51');
  expect((await anneal(['data', 'check'])).code).toBe(2);
});

/** Runs the activities of the stage as a run does. @returns the dataset, or null when a gate stops it. */
async function prepare(run: string, maxQuarantined: number, more: object = {}): Promise<string | null> {
  const store = createFileStore(join(state, 'store'));
  const models = join(folder, 'models');
  cpSync(join(PROJECT_FOLDER, '.anneal', 'models', 'tiny'), join(models, 'tiny'), { recursive: true });
  const python = {
    executable: join(PROJECT_FOLDER, '.anneal', 'venv', 'bin', 'python'),
    packageFolder: join(PROJECT_FOLDER, 'gpu-activity-image'),
    environment: { PATH: process.env.PATH ?? '' },
  };
  const parts: Parts = {
    store,
    python,
    state,
    models,
    examples: folder,
    host: 'here',
    gatewayUrl: '',
  };
  const sources = { examplesFolder: folder, readS3: async () => null };
  const links = {
    run: (id: string) => `http://ui/${id}`,
    card: (digest: string) => `http://cards/${digest}`,
    stopped: (id: string, card: string) => `http://stopped/${id}/${card}`,
  };
  const data = { sources: [{ uri: join(folder, 'support.jsonl') }], gates: { maxQuarantined }, ...more };
  const spec = parseSpec({ name: 'support', model: { base: 'tiny' }, data });
  const { digest } = await takeSnapshot(store, spec, sources, () => undefined);
  const environment = new MockActivityEnvironment({}, { logger: new DefaultLogger('ERROR') });
  const activities = createPreprocessActivities(parts, { sources, pseudonymKey: null, links });
  const call = <I, R>(activity: (input: I) => Promise<R>, input: I) => environment.run(activity, input) as Promise<R>;
  const { preparation } = await call(activities.planRanges, { run, spec, snapshot: digest });
  const { cleaned } = await call(activities.cleanRange, { run, preparation, range: 0 });
  const orRefused = (failure: unknown) => {
    if (!(failure instanceof ApplicationFailure) || failure.type !== 'data_rejected') throw failure;
    expect(failure.details?.[0]).toMatchObject({ card: expect.stringContaining(`http://stopped/${run}/`) });
    return null;
  };
  const resolved = await call(activities.resolveRows, { run, preparation, cleaned: [cleaned] }).catch(orRefused);
  if (resolved === null) return null;
  const { resolution } = resolved;
  const { tokenised } = await call(activities.tokeniseRange, { run, preparation, range: 0, cleaned, resolution });
  const made = await call(activities.finishDataset, {
    run,
    preparation,
    cleaned: [cleaned],
    resolution,
    tokenised: [tokenised],
    startedMs: Date.now() - 1_000,
  }).catch(orRefused);
  if (made === null) return null;
  expect(made.card).toBe(`http://cards/${made.dataset}`);
  expect(made.seconds).toBeGreaterThan(1);
  await store.close();
  return made.dataset;
}

test('of a run that was prepared the dropped rows are shown, by code too, and exported, with their originals on request', async () => {
  const dataset = (await prepare('support-1', 0.1)) as string;
  const shown = await anneal(['data', 'quarantine', 'show', 'support-1', '--code', 'invalid_json', '--limit', '1']);
  expect(shown.stdout).toContain('support.jsonl:6  invalid_json');
  expect(shown.stdout).toContain('1 of 2 dropped rows.');
  expect(shown.stdout).not.toContain('jo.miller');

  const exporting = ['data', 'quarantine', 'export', 'support-1', '--to', 'originals.jsonl', '--original', '--json'];
  expect(lastObject(await anneal(exporting))).toEqual({ file: join(folder, 'originals.jsonl'), rows: 3 });
  const rows = readFileSync(join(folder, 'originals.jsonl'), 'utf8').trim().split('\n');
  const lines = messyLines();
  expect(rows.map((row) => JSON.parse(row) as object)).toMatchObject([
    { line: 6, code: 'invalid_json', preview: '{"messages": [broken, <EMAIL>', original: lines[5] },
    {
      line: 21,
      code: 'wrong_type',
      expected: 'text',
      found: expect.stringContaining('the '),
      hint: expect.stringContaining('type'),
      original: lines[20],
    },
    { line: 51, code: 'invalid_json', original: lines[50] },
  ]);
  expect(statSync(join(folder, 'originals.jsonl')).mode & 0o077).toBe(0);

  expect((await anneal(['data', 'card', dataset.slice(0, 12), '--to', 'card.json'])).code).toBe(0);
  const { rows: book, sample, packing, lineage } = JSON.parse(readFileSync(join(folder, 'card.json'), 'utf8'));
  expect(book).toMatchObject({ rowsIn: 59, dropped: { invalid_json: 2, wrong_type: 1 } });
  expect(sample.some((piece: { trainable: boolean }) => piece.trainable)).toBe(true);
  expect(packing.rows).toBeGreaterThan(0);
  expect(lineage).toMatchObject({ dataset, workflow: 'http://ui/support-1' });
});

test('a run that its gate has stopped still shows why', async () => {
  expect(await prepare('stopped-1', 0.01)).toBe(null);
  const shown = await anneal(['data', 'quarantine', 'show', 'stopped-1', '--json']);
  expect(lastObject(shown)).toMatchObject({
    dropped: { invalid_json: 2, wrong_type: 1 },
    rows: [{ line: 6 }, { line: 21 }, { line: 51 }],
  });
  const { verdict, rows } = lastObject(await anneal(['data', 'card', 'stopped-1', '--json']));
  expect(verdict).toMatchObject({ state: 'blocked', sentence: expect.stringContaining('data.gates.maxQuarantined') });
  expect(rows).toMatchObject({ rowsIn: 59, kept: 55 });
});

test('a run that is stopped after its rows were tokenised shows those that the tokeniser refused', async () => {
  expect(await prepare('stopped-2', 0.1, { maxLength: 16, tooLong: 'drop' })).toBe(null);
  const card = lastObject(await anneal(['data', 'card', 'stopped-2', '--json']));
  expect(card).toMatchObject({ verdict: { state: 'blocked' }, codes: [{ code: 'too_long' }, {}, {}] });
  expect((card.codes as { examples: object[] }[])[0]?.examples.length).toBeGreaterThan(0);
});

test('where columns are dropped, rows are not given out as they stand in the source', async () => {
  await prepare('hidden-1', 0.01, { dropColumns: ['email'] });
  const refused = await anneal(['data', 'quarantine', 'export', 'hidden-1', '--to', 'x.jsonl', '--original']);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('drops the columns email');
});

test('an unknown run and an unknown code are one sentence each', async () => {
  const unknown = await anneal(['data', 'quarantine', 'show', 'nothing-1']);
  expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('nothing-1')]);
  const code = await anneal(['data', 'quarantine', 'show', 'support-1', '--code', 'ugly']);
  expect([code.code, code.stderr]).toEqual([2, expect.stringContaining('No row is ever dropped under ugly')]);
});
