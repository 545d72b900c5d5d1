// The gateway: OpenAI's chat API in front of an engine, endpoint names in place of model names.
// Not protected: there is no authentication; whoever reaches the port may ask. Keep it on loopback or behind a proxy that asks who calls.
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import type { Route } from '../contracts/records.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { Log } from '../telemetry/log.ts';
import { type ApiError, notFound, toApiError } from './api-error.ts';
import { serveCards } from './cards.ts';
import { merge } from './channel.ts';
import { type ChatRequest, parseChatRequest } from './chat-request.ts';
import { completion, createChunks, event, type Identity, newIdentity, usageOf } from './chat-response.ts';
import type { Engine, Generated } from './engine.ts';
import { createMetrics } from './metrics.ts';
import { adapterName, type Routes } from './routes.ts';

export interface GatewayConfig {
  engine: Engine;
  routes: Routes;
  /** Where the data cards of datasets are read from. */
  store: ObjectStore;
  /** Name of the base model, which is served under it too. */
  base: string;
  /** Tokens of prompt and answer that the engine holds; the bound of an answer whose length was not asked. */
  lengthMax: number;
  log: Log;
}

/** Bytes of a request; a chat that fills the longest context is far smaller. */
const BODY_BYTES_MAX = 4 * 1024 * 1024;
/** A connection without a byte for this long is closed, ms: a stalled reader must not hold its text for ever. */
const IDLE_MS_MAX = 300_000;

/** The answer to `GET /health`: 200 when the engine can generate, else 503. */
export interface Health {
  status: 'ok' | 'unavailable';
  base: string;
  endpoints: { endpoint: string; version: string; digest: string; loaded: boolean }[];
  /** Sentences: what keeps an endpoint from its newest route. */
  problems: string[];
}

/** What answers a model name. */
interface Target {
  name: string;
  adapter: string | null;
  version: string;
  fingerprint: string;
  system: string | null;
}

type Finished = Extract<Generated, { kind: 'finished' }>;

export function createGateway(config: GatewayConfig): FastifyInstance {
  const { engine, routes, base, log } = config;
  const startedS = Math.floor(Date.now() / 1000);
  const metrics = createMetrics();
  const app = Fastify({ bodyLimit: BODY_BYTES_MAX, connectionTimeout: IDLE_MS_MAX, forceCloseConnections: 'idle' });

  app.setErrorHandler((error, _request, reply) => {
    const shown = toApiError(error);
    const hasLeft = reply.raw.destroyed; // then the error is our own abort
    if (shown.status === 500 && !hasLeft)
      log.error('request failed', { error: String((error as Error).stack ?? error) });
    return sendError(reply, shown);
  });
  app.setNotFoundHandler((request) => {
    throw notFound(`${request.method} ${request.url} does not exist here.`, null, 'unknown_url');
  });

  const find = (name: string): Target => {
    const route = routes.find(name);
    if (route !== null) return targetOf(route);
    if (name === base) return { name, adapter: null, version: base, fingerprint: fingerprintOf(base), system: null };
    const known = [...routes.list().map((r) => r.endpoint), base].join(', ');
    throw notFound(`The model \`${name}\` does not exist; known are ${known}.`, 'model', 'model_not_found');
  };

  const listModels = () => [
    ...routes.list().map((route) => describeRoute(route)),
    { id: base, object: 'model', created: startedS, owned_by: 'anneal', parent: null },
  ];

  app.get('/v1/models', () => ({ object: 'list', data: listModels() }));
  app.get<{ Params: { model: string } }>('/v1/models/:model', ({ params }) => {
    const { name } = find(params.model);
    return listModels().find((model) => model.id === name);
  });

  app.post('/v1/chat/completions', async (request, reply) => {
    const asked = parseChatRequest(request.body);
    const target = find(asked.model);
    count(target.name, reply);
    const gone = abortWhenGone(reply);
    reply.header('x-anneal-version', target.version);
    const answers = startAnswers(asked, target, gone);
    const identity = newIdentity(target.name, target.fingerprint);
    if (!asked.stream) return await collect(answers, identity, target);
    const first = await answers.next(); // a refusal has to come before the status line
    reply
      .header('cache-control', 'no-cache')
      .header('x-accel-buffering', 'no')
      .type('text/event-stream; charset=utf-8');
    // `Readable` asks for the next piece only when the connection takes it: a slow reader waits in the engine's channel.
    return reply.send(Readable.from(stream(first, answers, identity, asked, target), { objectMode: false }));
  });

  serveCards(app, config.store);
  app.get('/health', (_request, reply) => {
    const isReady = engine.isReady();
    return reply.code(isReady ? 200 : 503).send({
      status: isReady ? 'ok' : 'unavailable',
      base,
      endpoints: routes.list().map((route) => describeEndpoint(route, engine)),
      problems: routes.problems(),
    } satisfies Health);
  });
  app.get('/metrics', (_request, reply) =>
    reply.type('text/plain; version=0.0.4').send(metrics.text(engine.isReady())),
  );

  /** All choices at once, so that they share the batch. When one is refused, the others are given up. */
  const startAnswers = (asked: ChatRequest, target: Target, gone: AbortController) => {
    const { seed } = asked.sampling;
    try {
      const answers = Array.from({ length: asked.choices }, (_, i) =>
        engine.generate(
          {
            adapter: target.adapter,
            messages: withSystem(asked.messages, target.system),
            maxTokens: asked.maxTokens ?? config.lengthMax,
            ...asked.sampling,
            seed: seed === null ? null : seed + i,
          },
          gone.signal,
        ),
      );
      return merge(answers);
    } catch (error) {
      gone.abort();
      throw error;
    }
  };

  const collect = async (answers: Answers, identity: Identity, target: Target) => {
    const texts: string[] = [];
    const finished: Finished[] = [];
    for await (const { index, value } of answers) {
      texts[index] ??= '';
      if (value.kind === 'text') texts[index] += value.text;
      else finished[index] = value;
    }
    countTokens(target, finished);
    return completion(identity, texts, finished);
  };

  async function* stream(
    first: IteratorResult<{ index: number; value: Generated }>,
    answers: Answers,
    identity: Identity,
    asked: ChatRequest,
    target: Target,
  ) {
    const chunks = createChunks(identity, asked.includeUsage);
    const finished: Finished[] = [];
    for (let index = 0; index < asked.choices; index++) yield chunks.role(index);
    try {
      for (let step = first; !step.done; step = await answers.next()) {
        const { index, value } = step.value;
        if (value.kind === 'text') {
          yield chunks.text(index, value.text);
        } else {
          finished.push(value);
          yield chunks.finish(index, value.reason);
        }
      }
    } catch (error) {
      yield event(toApiError(error).toJSON()); // the status line is out; clients raise on this
      return;
    }
    countTokens(target, finished);
    yield chunks.end(usageOf(finished));
  }

  const countTokens = (target: Target, finished: Finished[]) => {
    const usage = usageOf(finished);
    metrics.tokens(target.name, usage.prompt_tokens, usage.completion_tokens);
  };

  const count = (name: string, reply: FastifyReply) => {
    metrics.began(name);
    reply.raw.once('close', () => {
      metrics.ended(name);
      // 499 as nginx logs it: the client went away before its answer was whole.
      metrics.request(name, reply.raw.writableFinished ? reply.raw.statusCode : 499);
    });
  };

  return app;
}

type Answers = AsyncGenerator<{ index: number; value: Generated }>;

function targetOf(route: Route): Target {
  const version = adapterName(route);
  return {
    name: route.endpoint,
    adapter: version,
    version,
    fingerprint: fingerprintOf(route.digest),
    system: route.system,
  };
}

function describeRoute(route: Route) {
  return {
    id: route.endpoint,
    object: 'model',
    created: Math.floor(Date.parse(route.at) / 1000),
    owned_by: 'anneal',
    parent: route.base,
    root: adapterName(route),
    version: { model: route.model, number: route.version, digest: route.digest },
  };
}

function describeEndpoint(route: Route, engine: Engine): Health['endpoints'][number] {
  const version = adapterName(route);
  return { endpoint: route.endpoint, version, digest: route.digest, loaded: engine.holds(version) };
}

function fingerprintOf(text: string): string {
  return `fp_${createHash('sha256').update(text).digest('hex').slice(0, 12)}`;
}

/** As in training: chats that bring no system message get the endpoint's. */
function withSystem(messages: ChatRequest['messages'], system: string | null): ChatRequest['messages'] {
  if (system === null || messages.some((message) => message.role === 'system')) return messages;
  return [{ role: 'system', content: system }, ...messages];
}

/** Aborts when the connection closes before the answer is whole. */
function abortWhenGone(reply: FastifyReply): AbortController {
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort();
  });
  return gone;
}

function sendError(reply: FastifyReply, error: ApiError) {
  if (error.retryAfter !== null) reply.header('retry-after', error.retryAfter);
  return reply.code(error.status).type('application/json; charset=utf-8').send(error.toJSON());
}
