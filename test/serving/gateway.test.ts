// The gateway and the embedded engine as an OpenAI client sees them: real HTTP, real Python, the tiny model.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { APIError, BadRequestError, InternalServerError, NotFoundError, RateLimitError } from 'openai';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Route } from '../../src/contracts/records.ts';
import type { Health } from '../../src/serving/gateway.ts';
import { fileSetOf } from '../../src/storage/file-set.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import {
  BASE,
  BATCH_MAX,
  publishVersion,
  type Running,
  scratchFolder,
  startGateway,
  WAITING_MAX,
  writeAdapter,
} from './given.ts';

const state = scratchFolder();
const store: ObjectStore = createFileStore(join(state, 'store'));
const one = writeAdapter(join(state, 'one'), 1);
const two = writeAdapter(join(state, 'two'), 2);
let running: Running;
let first: Route;

beforeAll(async () => {
  first = await publishVersion(store, one, 1);
  running = await startGateway(store, state);
});
afterAll(async () => {
  await running.close();
  rmSync(state, { recursive: true });
});

const question = [{ role: 'user' as const, content: 'What is the sea?' }];
const greedy = { model: 'banking', messages: question, temperature: 0, max_tokens: 12 };

async function answer(over: object = {}): Promise<string> {
  const { choices } = await running.client.chat.completions.create({ ...greedy, ...over });
  return choices[0]?.message.content ?? '';
}

async function post(path: string, body: object): Promise<Response> {
  return await fetch(running.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

const caught = async (work: Promise<unknown>): Promise<APIError> => {
  const error = await work.then(
    () => null,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(APIError);
  return error as APIError;
};

describe('what is served', () => {
  test('models are the endpoints, with their version, and the base model', async () => {
    const models = (await running.client.models.list()).data;
    expect(models.map((model) => model.id)).toEqual(['banking', BASE]);
    expect(models[0]).toMatchObject({
      owned_by: 'anneal',
      parent: BASE,
      root: 'intents--v1',
      version: { model: 'intents', number: 1, digest: first.digest },
      created: Math.floor(Date.parse(first.at) / 1000),
    });
    expect(await running.client.models.retrieve('banking')).toMatchObject({ id: 'banking' });
  });

  test('health and metrics say what is loaded', async () => {
    const health = await fetch(`${running.url}/health`);
    expect(health.status).toBe(200);
    expect(await health.json()).toEqual({
      status: 'ok',
      base: BASE,
      endpoints: [{ endpoint: 'banking', version: 'intents--v1', digest: first.digest, loaded: true }],
      problems: [],
    });
    await answer();
    const metrics = await (await fetch(`${running.url}/metrics`)).text();
    expect(metrics).toContain('anneal_requests_total{model="banking",status="200"}');
    expect(metrics).toMatch(/anneal_tokens_total\{model="banking",kind="completion"\} \d+/);
    expect(metrics).toContain('anneal_engine_ready 1');
  });
});

describe('a chat', () => {
  test('answers with text, usage and the version that answered', async () => {
    const { data, response } = await running.client.chat.completions.create(greedy).withResponse();
    expect(data.object).toBe('chat.completion');
    expect(data.choices[0]).toMatchObject({ index: 0, finish_reason: 'length', message: { role: 'assistant' } });
    expect(data.choices[0]?.message.content?.length).toBeGreaterThan(0);
    expect(data.usage?.completion_tokens).toBe(12);
    expect(data.usage?.total_tokens).toBe((data.usage?.prompt_tokens ?? 0) + 12);
    expect(response.headers.get('x-anneal-version')).toBe('intents--v1');
    expect(await answer({ model: BASE })).not.toBe(data.choices[0]?.message.content);
  });

  test('streams one role chunk, deltas, a finish reason, usage and [DONE]', async () => {
    const whole = await answer();
    const options = { stream: true as const, stream_options: { include_usage: true } };
    const chunks = [];
    for await (const chunk of await running.client.chat.completions.create({ ...greedy, ...options }))
      chunks.push(chunk);
    expect(chunks.filter((chunk) => chunk.choices[0]?.delta.role === 'assistant')).toHaveLength(1);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(whole);
    expect(chunks.filter((chunk) => chunk.choices[0]?.finish_reason === 'length')).toHaveLength(1);
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true);
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 12 } });
    const raw = await (await post('/v1/chat/completions', { ...greedy, stream: true })).text();
    expect(raw.endsWith('data: [DONE]\n\n')).toBe(true);
    expect(raw).not.toContain('usage');
  });

  test('stops before a stop string', async () => {
    const whole = await answer();
    const stop = whole.slice(9, 13);
    const { choices } = await running.client.chat.completions.create({ ...greedy, stop: [stop] });
    expect(choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: whole.slice(0, whole.indexOf(stop)) },
    });
  });

  test('gives n choices, which differ, and the same ones again for the same seed', async () => {
    const sampled = { ...greedy, temperature: 1, top_p: 0.9, seed: 7, n: 2 };
    const [a, b] = [
      await running.client.chat.completions.create(sampled),
      await running.client.chat.completions.create(sampled),
    ];
    const texts = a.choices.map((choice) => choice.message.content);
    expect(texts).toHaveLength(2);
    expect(texts[0]).not.toBe(texts[1]);
    expect(b.choices.map((choice) => choice.message.content)).toEqual(texts);
    expect(a.usage?.completion_tokens).toBe(24);
  });

  test('takes the system message of its route when it brings none', async () => {
    const system = 'Answer with one word.';
    await publishVersion(store, one, 1, { endpoint: 'terse', system });
    await running.routes.sync();
    const [implied, explicit, none] = [
      await running.client.chat.completions.create({ ...greedy, model: 'terse' }),
      await running.client.chat.completions.create({
        ...greedy,
        messages: [{ role: 'system', content: system }, ...question],
      }),
      await running.client.chat.completions.create(greedy),
    ];
    expect(implied.usage?.prompt_tokens).toBe(explicit.usage?.prompt_tokens);
    expect(implied.usage?.prompt_tokens).not.toBe(none.usage?.prompt_tokens);
    expect(implied.choices[0]?.message.content).toBe(explicit.choices[0]?.message.content);
  });

  test('takes text parts, the developer role, and messages as they came from an answer', async () => {
    const parts = [
      { type: 'text' as const, text: 'What is ' },
      { type: 'text' as const, text: 'the sea?' },
    ];
    expect(await answer({ messages: [{ role: 'user', content: parts }] })).toBe(await answer());
    const { choices } = await running.client.chat.completions.create(greedy);
    const chat = [{ role: 'developer', content: 'Be brief.' }, ...question, choices[0]?.message, ...question];
    expect((await post('/v1/chat/completions', { ...greedy, messages: chat })).status).toBe(200);
  });
});

describe('what is refused', () => {
  test.each([
    ['messages', { messages: [] }],
    ['messages[0].content', { messages: [{ role: 'user', content: 5 }] }],
    ['messages[0].role', { messages: [{ role: 'tool', content: 'x' }] }],
    ['messages[0].name', { messages: [{ role: 'user', content: 'x', name: 'Ann' }] }],
    ['max_tokens', { max_tokens: -3 }],
    ['temperature', { temperature: 3 }],
    ['n', { n: 5 }],
    ['stop', { stop: ['a', 'b', 'c', 'd', 'e'] }],
    ['stream_options', { stream_options: { include_usage: true } }],
    ['tools', { tools: [{ type: 'function', function: { name: 'f' } }] }],
    ['logprobs', { logprobs: true }],
    ['response_format', { response_format: { type: 'json_object' } }],
    ['prompt_logprobs', { prompt_logprobs: 1 }],
    ['constructor', JSON.parse('{"constructor": 1}')],
  ])('400 that names %s', async (param, over) => {
    const response = await post('/v1/chat/completions', { ...greedy, ...over });
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: Record<string, unknown> };
    expect(error).toMatchObject({ type: 'invalid_request_error', param });
    expect(error.message).toContain(param);
  });

  test('fields with the value that changes nothing are taken', async () => {
    const neutral = { tools: [], logprobs: false, response_format: { type: 'text' }, presence_penalty: 0, seed: null };
    expect((await post('/v1/chat/completions', { ...greedy, ...neutral })).status).toBe(200);
  });

  test('404 for a model that does not exist', async () => {
    const error = await caught(answer({ model: 'nope' }));
    expect(error).toBeInstanceOf(NotFoundError);
    expect(error).toMatchObject({ code: 'model_not_found', param: 'model' });
    expect((await fetch(`${running.url}/v1/nothing`)).status).toBe(404);
  });

  test('400 for a prompt longer than the context, streamed or not', async () => {
    const messages = [{ role: 'user' as const, content: 'word '.repeat(9000) }];
    for (const stream of [false, true]) {
      const error = await caught(running.client.chat.completions.create({ ...greedy, messages, stream }));
      expect(error).toBeInstanceOf(BadRequestError);
      expect(error.code).toBe('context_length_exceeded');
    }
  });

  test('400 for a body that is not JSON', async () => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${running.url}/v1/chat/completions`, { method: 'POST', headers, body: '{' });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error' } });
  });

  test('429 with retry-after when the queue is full, and not a moment longer', async () => {
    const hold = new AbortController();
    const long = { ...greedy, n: BATCH_MAX + WAITING_MAX, max_tokens: 3000, stream: true as const };
    const full = await running.client.chat.completions.create(long, { signal: hold.signal });
    const error = await caught(answer());
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error.headers?.get('retry-after')).toBe('2');
    hold.abort();
    await expect(drain(full)).resolves.toBeDefined();
    await expect.poll(() => running.engine.inFlight()).toBe(0);
    expect(await answer()).not.toBe('');
  });
});

async function drain(stream: AsyncIterable<{ choices: { delta: { content?: string | null } }[] }>): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
  return text;
}

describe('what happens meanwhile', () => {
  test('a client that goes away frees the engine', async () => {
    const stream = await running.client.chat.completions.create({ ...greedy, max_tokens: 4000, stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break; // leaving the loop aborts the request
    await expect.poll(() => running.engine.inFlight()).toBe(0);
    // The gateway may hear of it after the engine.
    const metrics = async () => await (await fetch(`${running.url}/metrics`)).text();
    await expect.poll(metrics).toContain('anneal_requests_total{model="banking",status="499"}');
    expect(await metrics()).toContain('anneal_requests_in_flight{model="banking"} 0');
  });

  test('a reader that stops reading gets the whole answer when it reads on, and holds up nobody', async () => {
    const whole = await answer({ max_tokens: 400 });
    const response = await post('/v1/chat/completions', { ...greedy, max_tokens: 400, stream: true });
    await expect.poll(() => running.engine.inFlight()).toBe(0);
    expect(await answer()).toBe(whole.slice(0, (await answer()).length));
    const text = (await response.text())
      .split('\n\n')
      .flatMap((line) => (line.startsWith('data: {') ? [JSON.parse(line.slice(6))] : []))
      .map((chunk) => chunk.choices[0]?.delta.content ?? '');
    expect(text.join('')).toBe(whole);
  });

  test('a switch from v1 to v2 leaves the running answer with v1', async () => {
    const long = { ...greedy, max_tokens: 600 };
    const [oldShort, oldLong] = [await answer(), await answer(long)];
    const stream = await running.client.chat.completions.create({ ...long, stream: true });
    const second = await publishVersion(store, two, 2);
    expect(await publishVersion(store, two, 2)).toEqual(second);
    await running.routes.sync();
    expect(running.routes.find('banking')?.version).toBe(2);
    expect(running.engine.inFlight(), 'the old answer must still run').toBe(1);
    const { data, response } = await running.client.chat.completions.create(greedy).withResponse();
    expect(response.headers.get('x-anneal-version')).toBe('intents--v2');
    expect(data.choices[0]?.message.content).not.toBe(oldShort);
    expect(await drain(stream)).toBe(oldLong);
  });

  test('a route that cannot be served leaves the last one serving and says why', async () => {
    const before = await answer();
    const problems = async () => {
      await running.routes.sync();
      return ((await (await fetch(`${running.url}/health`)).json()) as Health).problems.join();
    };
    await publishVersion(store, one, 3, { base: 'another-base' });
    expect(await problems()).toContain('another-base');
    const stray = fileSetOf(first.files.files.map((file) => ({ ...file, path: `../${file.path}` })));
    await publishVersion(store, one, 4, { files: stray, digest: stray.digest });
    expect(await problems()).toContain('leaves its folder');
    await publishVersion(store, one, 5, { digest: '0'.repeat(64) });
    expect(await problems()).toContain('other files than its digest');
    expect(running.routes.find('banking')?.version).toBe(2);
    expect(await answer()).toBe(before);
    await publishVersion(store, two, 2);
    expect(await problems()).toBe('');
  });

  test('an engine killed with -9 comes back with its adapters; what ran gets an error', async () => {
    const before = await answer();
    const stream = await running.client.chat.completions.create({ ...greedy, max_tokens: 4000, stream: true });
    const ended = caught(drain(stream));
    const killed = running.pids.at(-1) as number;
    process.kill(killed, 'SIGKILL');
    expect((await ended).message).toContain('engine');
    expect((await fetch(`${running.url}/health`)).status).toBe(503);
    const refused = await caught(answer());
    expect(refused).toBeInstanceOf(InternalServerError);
    expect(refused.status).toBe(503);
    await vi.waitFor(() => expect(running.engine.isReady()).toBe(true), { timeout: 50_000 });
    expect(running.pids.at(-1)).not.toBe(killed);
    expect(await answer()).toBe(before);
    expect((await fetch(`${running.url}/health`)).status).toBe(200);
  });
});
