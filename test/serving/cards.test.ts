// The address of a data card, as the link on a run's page leads to it.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import Fastify from 'fastify';
import { afterAll, expect, test } from 'vitest';
import { buildCard } from '../../src/data/card/card.ts';
import { storeCard } from '../../src/data/card/stored.ts';
import { ApiError } from '../../src/serving/api-error.ts';
import { serveCards } from '../../src/serving/cards.ts';
import { fileSetOf } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { keys } from '../../src/storage/keys.ts';
import { createJson } from '../../src/storage/record.ts';
import { cardInput } from '../data/card-given.ts';
import { scratchFolder } from './given.ts';

const folder = scratchFolder();
const store = createFileStore(join(folder, 'store'));
const app = Fastify();
app.setErrorHandler((error, _request, reply) => reply.code(error instanceof ApiError ? error.status : 500).send(error));
serveCards(app, store);
afterAll(async () => {
  await app.close();
  rmSync(folder, { recursive: true });
});

test('a dataset’s card is served as a page, as Markdown and as JSON, and a browser may load nothing with it', async () => {
  const input = cardInput();
  const { dataset: digest, accounts, tokens, snapshot } = input;
  const card = await storeCard(store, buildCard(input));
  const record = { digest, snapshot: snapshot.digest, files: fileSetOf([]), accounts, tokens, system: null, card };
  await createJson(store, keys.dataset(digest as string), record);
  const page = await app.inject(`/datasets/${digest}/card`);
  expect(page.statusCode).toBe(200);
  expect(page.headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': expect.stringContaining("default-src 'none'"),
  });
  expect(page.body).toContain('<h1>support-assistant</h1>');
  expect((await app.inject(`/datasets/${digest}/card.json`)).json()).toMatchObject({ v: 1, rows: { rowsIn: 1090 } });
  expect((await app.inject(`/datasets/${digest}/card.md`)).body).toMatch(/^# Data card: support-assistant\n/);
});

test('so is the card of a run that a gate has stopped', async () => {
  const card = await storeCard(store, buildCard({ ...cardInput(), blocked: 'Too few rows.' }));
  await createJson(store, keys.stoppedCard('Ann’s run', card.digest), card);
  const page = await app.inject(`/runs/${encodeURIComponent('Ann’s run')}/stopped/${card.digest}/card`);
  expect(page.statusCode).toBe(200);
  expect(page.body).toContain('Too few rows.');
});

test.each([
  `/runs/run-1/stopped/${'a'.repeat(64)}/card`,
  `/runs/..%2F..%2Fdatasets/stopped/${'a'.repeat(64)}/card`,
  `/datasets/${'a'.repeat(64)}/card`,
  '/datasets/..%2Fmodels/card',
  `/datasets/${'d'.repeat(64)}/train.jsonl`,
])('%s is not found', async (url) => {
  expect((await app.inject(url)).statusCode).toBe(404);
});
