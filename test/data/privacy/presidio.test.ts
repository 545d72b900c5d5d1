// Presidio over HTTP, against a small program that answers as its analyzer does, faults included.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { afterEach, expect, test } from 'vitest';
import { PrivacySchema } from '../../../src/contracts/privacy-rules.ts';
import type { Content } from '../../../src/data/mapping.ts';
import { createPresidio } from '../../../src/data/privacy/presidio.ts';

interface Question {
  text: string[];
  language: string;
  entities: string[];
}

type Answer = (question: Question, response: ServerResponse) => void | Promise<void>;

let server: Server | null = null;
afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server === null ? resolve(null) : server.close(resolve)));
  server = null;
});

async function listen(answer: Answer): Promise<string> {
  server = createServer(async (request: IncomingMessage, response: ServerResponse) => {
    expect(request.url).toBe('/analyze');
    await answer((await json(request)) as Question, response);
  });
  await new Promise((resolve) => server?.listen(0, '127.0.0.1', () => resolve(null)));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Knows three names and a street; counts code points, as Python does. */
function find(text: string): { entity_type: string; start: number; end: number; score: number }[] {
  return Object.entries({
    'Ada Lovelace': 'PERSON',
    'Grace Hopper': 'PERSON',
    EMAIL: 'PERSON',
    'Main Street 5': 'LOCATION',
  }).flatMap(([name, entity_type]) => {
    const at = text.indexOf(name);
    if (at === -1) return [];
    const start = [...text.slice(0, at)].length;
    return [{ entity_type, start, end: start + [...name].length, score: 0.85 }];
  });
}

const answerAll: Answer = ({ text }, response) => {
  response.end(JSON.stringify(text.map(find)));
};

const chat = (user: string): Content => ({
  messages: [
    { role: 'user', content: user },
    { role: 'assistant', content: 'Fine.' },
  ],
});

function create(presidio: string, rules = {}, signal = new AbortController().signal) {
  return createPresidio(PrivacySchema.parse({ action: 'mask', presidio, ...rules }), null, signal);
}

test('names and addresses are masked where they stand, behind an emoji, too; placeholders are no names', async () => {
  const [first, second, third] = await create(await listen(answerAll)).inspectBatch([
    chat('🎉🎉 Ada Lovelace lives in Main Street 5.'),
    chat('nobody'),
    chat('write to <EMAIL>'),
  ]);
  expect(first?.content).toEqual(chat('🎉🎉 <PERSON> lives in <ADDRESS>.'));
  expect(first?.found).toEqual({ person: 1, address: 1 });
  expect(second?.found).toEqual({});
  expect(third?.content).toEqual(chat('write to <EMAIL>'));
});

/** What presidio-analyzer 2.2.366 answered, with spaCy's small English model, to these texts in one request. */
const found = (entity_type: string, start: number, end: number) => ({
  ...{ analysis_explanation: null, end, entity_type, score: 0.85, start },
});
const RECORDED: readonly (readonly [text: string, found: object[], masked: string])[] = [
  [
    '🎉🎉 My name is John Smith and I live in Berlin, Germany.',
    [found('PERSON', 14, 24), found('LOCATION', 39, 45), found('LOCATION', 47, 54)],
    '🎉🎉 My name is <PERSON> and I live in <ADDRESS>, <ADDRESS>.',
  ],
  ['nobody here', [], 'nobody here'],
  [
    'écrit par Zoë 👩‍👩‍👧 Mary Johnson in Paris',
    [found('PERSON', 6, 13), found('PERSON', 20, 32), found('LOCATION', 36, 41)],
    'écrit <PERSON> 👩‍👩‍👧 <PERSON> in <ADDRESS>',
  ],
  ['write to <EMAIL> or <PERSON> at <PHONE>', [], 'write to <EMAIL> or <PERSON> at <PHONE>'],
  [
    'Call Dr. Angela Merkel at 5 Main Street, Springfield',
    [found('PERSON', 9, 22), found('LOCATION', 41, 52)],
    'Call Dr. <PERSON> at 5 Main Street, <ADDRESS>',
  ],
];

test('the answers of the real analyzer are understood: code points, its names of entities, one list a text', async () => {
  const answers = new Map(RECORDED.map(([text, answer]) => [text, answer]));
  const url = await listen(({ text }, response) => {
    response.end(JSON.stringify(text.map((one) => answers.get(one) ?? [])));
  });
  const inspections = await create(url).inspectBatch(RECORDED.map(([text]) => chat(text)));
  expect(inspections.map(({ content }) => content)).toEqual(RECORDED.map(([, , masked]) => chat(masked)));
});

test('a long text is asked about piece by piece, because the analyzer takes none of a million characters', async () => {
  let longest = 0;
  const url = await listen((question, response) => {
    longest = Math.max(longest, ...question.text.map((text) => text.length));
    return answerAll(question, response);
  });
  const filling = 'Many rooms, 🎉 and halls.\n'.repeat(2_000);
  const solid = '漢'.repeat(70_000);
  const text = `Ada Lovelace ${filling}Grace Hopper ${solid} Main Street 5${filling}`;
  const [inspection] = await create(url).inspectBatch([chat(text)]);
  const masked = text
    .replace('Ada Lovelace', '<PERSON>')
    .replace('Grace Hopper', '<PERSON>')
    .replace('Main Street 5', '<ADDRESS>');
  expect(inspection?.content).toEqual(chat(masked));
  expect(longest).toBeLessThanOrEqual(32_768);
});

test('many texts go in few requests, each text once, at most four requests at a time, and come back in order', async () => {
  let requests = 0;
  let open = 0;
  let mostOpen = 0;
  const asked: string[] = [];
  const url = await listen(async ({ text, language, entities }, response) => {
    requests++;
    mostOpen = Math.max(mostOpen, ++open);
    expect([language, entities]).toEqual(['de', ['PERSON', 'LOCATION']]);
    asked.push(...text);
    await new Promise((resolve) => setImmediate(resolve));
    open--;
    response.end(JSON.stringify(text.map(find)));
  });
  const rows = Array.from({ length: 500 }, (_, i) => chat(i % 2 === 0 ? `Row ${i} by Grace Hopper` : `Row ${i}`));
  const inspections = await create(url, { presidioLanguage: 'de' }).inspectBatch(rows);
  expect(inspections.map(({ found }) => found.person ?? 0)).toEqual(rows.map((_, i) => 1 - (i % 2)));
  expect(new Set(asked).size).toBe(asked.length);
  expect(requests).toBeLessThan(20);
  expect(mostOpen).toBeLessThanOrEqual(4);
});

test('types that are off are not asked for, and without any nobody is asked', async () => {
  const asked: string[][] = [];
  const url = await listen((question, response) => {
    asked.push(question.entities);
    return answerAll(question, response);
  });
  await create(url, { types: { address: 'off' } }).inspectBatch([chat('Ada Lovelace')]);
  await create(url, { types: { address: 'off', person: 'off' } }).inspectBatch([chat('Ada Lovelace')]);
  expect(asked).toEqual([['PERSON']]);
});

test('an answer that comes after failures is taken', async () => {
  let tries = 0;
  const url = await listen((question, response) => {
    tries++;
    if (tries === 1) return void response.writeHead(503).end('loading');
    return answerAll(question, response);
  });
  const [inspection] = await create(url).inspectBatch([chat('Ada Lovelace')]);
  expect(inspection?.found).toEqual({ person: 1 });
});

test.each<[string, Answer, string, RegExp]>([
  [
    'down',
    (_, response) => void response.writeHead(502).end('bad gateway'),
    'source_unavailable',
    /answered 502.*bad gateway/,
  ],
  ['cut off', (_, response) => void response.destroy(), 'source_unavailable', /cannot be asked/],
  ['no Presidio', (_, response) => void response.end('{"hello":1}'), 'bad_request', /did not answer as Presidio/],
  [
    'short of an answer',
    ({ text }, response) => void response.end(JSON.stringify(text.slice(1).map(find))),
    'bad_request',
    /did not answer as Presidio/,
  ],
  [
    'without the language',
    (_, response) =>
      void response.writeHead(500).end('{"error":"No matching recognizers were found to serve the request."}\n'),
    'bad_request',
    /no recognizers of the language en; correct `data\.privacy\.presidioLanguage`/,
  ],
])('%s: the batch fails, no row passes unseen', async (_, answer, kind, message) => {
  const failure = create(await listen(answer)).inspectBatch([chat('Ada Lovelace')]);
  await expect(failure).rejects.toMatchObject({ kind, message: expect.stringMatching(message) });
});

test('nobody there: a typed failure that names the address', async () => {
  await expect(create('http://127.0.0.1:1').inspectBatch([chat('Ada Lovelace')])).rejects.toMatchObject({
    kind: 'source_unavailable',
    message: expect.stringContaining('http://127.0.0.1:1/analyze'),
  });
});

test('a signal ends the waiting', async () => {
  const abort = new AbortController();
  const url = await listen(() => abort.abort(new Error('stop')));
  await expect(create(url, {}, abort.signal).inspectBatch([chat('Ada Lovelace')])).rejects.toThrow('stop');
});
