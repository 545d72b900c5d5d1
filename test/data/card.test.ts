// The data card: its sums, its verdict, and that its page is whole by itself, whatever stands in the rows.
import { toUSVString } from 'node:util';
import { expect, test } from 'vitest';
import { CardSchema } from '../../src/contracts/card.ts';
import { DROP_CODES } from '../../src/contracts/rows.ts';
import { buildCard } from '../../src/data/card/card.ts';
import { STYLE } from '../../src/data/card/style.ts';
import { rolesText, waterfallOf } from '../../src/data/card/wording.ts';
import { brokenLine, cardInput, givenChats, profileOf } from './card-given.ts';

test('the waterfall goes from the rows in to the rows kept, and a card whose sums are off is not made', () => {
  const { json } = buildCard(cardInput());
  const steps = waterfallOf(json.rows);
  const lost = steps.filter(({ kind }) => kind === 'dropped' || kind === 'duplicate');
  expect(steps[0]).toMatchObject({ kind: 'in', rows: 1090 });
  expect(steps.at(-1)).toMatchObject({ kind: 'kept', rows: 1090 - lost.reduce((sum, { rows }) => sum + rows, 0) });
  expect(CardSchema.parse(JSON.parse(JSON.stringify(json)))).toEqual(json);
  const { accounts } = cardInput();
  expect(() => buildCard(cardInput({ accounts: { ...accounts, duplicates: 49 } }))).toThrow(/does not add up/);
});

const CLEAN = profileOf(givenChats(1000));
const clean = () =>
  cardInput({
    pii: {},
    nearFound: null,
    profile: CLEAN,
    accounts: {
      ...{ rowsIn: 1000, kept: 1000, duplicates: 0, dropped: {}, splits: { train: 850, validation: 50, test: 100 } },
      bySource: [
        { uri: 'a.jsonl', rowsIn: 900, kept: 900, duplicates: 0, dropped: {} },
        { uri: 'b.jsonl', rowsIn: 100, kept: 100, duplicates: 0, dropped: {} },
      ],
    },
  });

test('clean data pass, odd data pass with a warning, and what a gate refuses is blocked', () => {
  expect(buildCard(clean()).json.verdict).toEqual({ state: 'pass', sentence: '1000 rows are ready to train on.' });
  const odd = buildCard({ ...clean(), pii: { email: 3 }, privacy: { ...clean().privacy, action: 'warn' } }).json;
  expect(odd.verdict.state).toBe('warnings');
  expect(odd.verdict.sentence).toBe(
    'Personal data or secrets stay in the rows (3 email); set `data.privacy.action` to mask.',
  );
  const blocked = buildCard({ ...clean(), blocked: 'Too few rows; add some.' });
  expect(blocked.json.verdict).toEqual({ state: 'blocked', sentence: 'Too few rows; add some.' });
  expect(blocked.html).toContain('BLOCKED');
  expect(blocked.markdown).toContain('**BLOCKED.** Too few rows; add some.');
});

test('what was mended is told on the page and in Markdown', () => {
  const { html, markdown } = buildCard({ ...clean(), fixed: { invalid_utf8: 3 } });
  expect(html).toContain('mended: 3 rows with <code>invalid_utf8</code>');
  expect(markdown).toContain('- mended: 3 rows with `invalid_utf8`');
});

test('thousands of sources, dozens of codes and no rows at all are a page that a person reads', () => {
  const many = Array.from(
    { length: 3_000 },
    (_, i) => `file:///data/${i % 2 === 0 ? 'a%20b' : 'c'}/${i - (i % 2)}.jsonl`,
  );
  const codes = Object.fromEntries(DROP_CODES.slice(0, 40).map((code, i) => [code, i + 1]));
  const dropped = 820;
  const bySource = many.map((uri, i) => ({
    uri,
    rowsIn: 1,
    kept: 1,
    duplicates: 0,
    dropped: {},
    ...(i === 0 && { rowsIn: 821, dropped: codes }),
  }));
  const { json, html, markdown } = buildCard({
    ...clean(),
    notes: many,
    snapshot: {
      digest: '5'.repeat(64),
      sources: many.map((uri) => ({ ...(cardInput().snapshot.sources[0] as object), uri })) as never,
    },
    accounts: { ...clean().accounts, rowsIn: 3_000 + dropped, kept: 3_000, dropped: codes, bySource },
  });
  expect(json.sources.length).toBe(3_000);
  expect(html.length).toBeLessThan(150_000);
  for (const text of [html, markdown]) {
    expect(text).toContain('a b/0.jsonl');
    expect(text).toContain('and 2,950 more sources');
    expect(text).toContain('29 other codes');
  }

  const none = { rowsIn: 0, kept: 0, duplicates: 0, dropped: {} };
  const empty = buildCard({
    ...clean(),
    blocked: 'No row was kept.',
    ...{ profile: profileOf([]), tokens: null, packing: null },
    accounts: { ...none, splits: { train: 0, validation: 0, test: 0 }, bySource: [{ uri: 'a.jsonl', ...none }] },
  }).html;
  for (const title of ['Splits', 'Lengths', 'What is in the rows', 'Personal data']) expect(empty).not.toContain(title);
});

test('the mix of sources is that of the dataset, after weights', () => {
  const rows = [...givenChats(100), ...givenChats(100, { source: 1 })];
  const books = [
    { uri: 'a.jsonl', rowsIn: 100, kept: 100, duplicates: 0, dropped: {}, repeated: 100 },
    { uri: 'b.jsonl', rowsIn: 100, kept: 50, duplicates: 0, dropped: {}, leftOut: 50 },
  ];
  const accounts = {
    rowsIn: 200,
    kept: 150,
    duplicates: 0,
    dropped: {},
    leftOut: 50,
    repeated: 100,
    splits: { train: 250, validation: 0, test: 0 },
    bySource: books,
  };
  const { json } = buildCard({ ...clean(), accounts, profile: profileOf(rows) });
  expect(json.sources.map(({ share }) => share)).toEqual([0.8, 0.2]);
});

/** Elements that have no end. */
const VOID = new Set(['meta', 'br', 'rect', 'line', '!doctype']);

function unbalanced(html: string): string[] {
  const open: string[] = [];
  const wrong: string[] = [];
  for (const [tag, end, name = '', rest = ''] of html.matchAll(
    /<(\/?)([a-z!][a-z0-9]*)((?:\s+[a-z-]+(?:="[^"<>]*")?)*\s*\/?)>/gi,
  )) {
    if (VOID.has(name)) continue;
    if (end === '') open.push(name);
    else if (open.pop() !== name) wrong.push(tag + rest);
  }
  const between = html.replace(/<style>[\s\S]*?<\/style>/, '').replace(/<\/?[a-z!][^<>]*>/gi, '');
  return [...wrong, ...open, ...(between.match(/[<>]/g) ?? [])];
}

test('the page is well formed and reaches for nothing, whatever the rows hold', () => {
  const hostile = `</pre></style><script>alert(1)</script><img src="http://evil.example/x.png" onerror='a'>&amp;\u0000\ud800`;
  const rows = Array.from({ length: 40 }, (_, line) => ({
    ...{ source: 0, line: line + 1 },
    content: {
      messages: [
        { role: 'system' as const, content: hostile },
        { role: 'user' as const, content: hostile },
        { role: 'assistant' as const, content: hostile },
      ],
    },
  }));
  const { html, markdown } = buildCard(
    cardInput({
      name: hostile,
      notes: [hostile],
      profile: profileOf(rows, [brokenLine('invalid_json', 3, hostile, hostile)]),
      blocked: hostile,
      dropColumns: [hostile],
      tokens: {
        ...(cardInput().tokens as NonNullable<ReturnType<typeof cardInput>['tokens']>),
        sample: [{ text: hostile, trainable: true }],
      },
    }),
  );
  expect(unbalanced(html)).toEqual([]);
  const tags = [...html.matchAll(/<([a-z]\w*)([^<>]*)>/gi)];
  const elements = new Set(tags.map(([, name]) => name));
  const attributes = new Set(tags.flatMap(([, , rest = '']) => rest.match(/[\w-]+(?==")/g) ?? []));
  for (const one of ['script', 'img', 'link', 'iframe', 'a']) expect(elements).not.toContain(one);
  for (const one of ['src', 'href', 'srcset', 'onerror']) expect(attributes).not.toContain(one);
  expect(STYLE).not.toMatch(/url\(|@import/);
  expect(html).not.toContain('\u0000');
  expect(toUSVString(html) === html).toBe(true);
  expect(markdown).not.toMatch(/^<script/m);
  expect(buildCard(cardInput({ workflow: 'http://127.0.0.1:8233/x' })).html).toContain(
    'href="http://127.0.0.1:8233/x"',
  );
});

test('secrets of addresses are not shown', () => {
  const { html, markdown, json } = buildCard(cardInput());
  for (const text of [html, markdown, JSON.stringify(json)]) expect(text).not.toContain('token=secret');
});

test('the same rows have not drifted; longer chats, another source and a new field have', () => {
  const input = cardInput();
  const before = {
    ...{ dataset: 'e'.repeat(64), splits: { train: 850, validation: 50, test: 100 } },
    sources: input.snapshot.sources.map(({ uri }) => uri),
  };
  const same = buildCard(
    cardInput({
      previous: { ...before, profile: profileOf(givenChats(900, { seed: 7 })) },
      profile: profileOf(givenChats(900, { seed: 8 })),
    }),
  );
  expect(same.json.drift?.distributions.filter(({ drifted }) => drifted)).toEqual([]);
  expect(same.json.drift).toMatchObject({ newFields: [], missingFields: [] });
  const short = givenChats(900, { seed: 7 }).map((row) => ({
    ...row,
    content: {
      messages: [
        { role: 'user' as const, content: 'a' },
        { role: 'assistant' as const, content: 'b', weight: 1 as const },
      ],
    },
  }));
  const moved = buildCard(cardInput({ previous: { ...before, profile: profileOf(short) } })).json.drift;
  expect(moved?.distributions.filter(({ drifted }) => drifted).map(({ name }) => name)).toEqual(
    expect.arrayContaining(['row length', 'messages in a chat', 'source']),
  );
  expect(moved?.missingFields).toEqual(['messages[].weight:number']);
});

test('with few rows chance is not taken for drift', () => {
  const previous = {
    ...{ dataset: 'e'.repeat(64), splits: { train: 9, validation: 0, test: 1 }, sources: [] },
    profile: profileOf(givenChats(10, { seed: 4 })),
  };
  const { drift } = buildCard(cardInput({ previous, profile: profileOf(givenChats(10, { seed: 5 })) })).json;
  expect(drift?.distributions.find(({ name }) => name === 'messages in a chat')).toMatchObject({ drifted: false });
});

test('roles are said in few words', () => {
  expect(['ua', 'suaua', 'uatt', 'suauauauauaua…'].map(rolesText)).toEqual([
    'user · assistant',
    'system · (user · assistant) × 2',
    'user · assistant · tool · tool',
    'system · (user · assistant) × 6 …',
  ]);
});
