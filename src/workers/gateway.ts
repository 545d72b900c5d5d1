// The gateway worker: one engine, the routes of the store, the HTTP port. Needs neither Temporal nor, once it has served, the store.
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readEnvironment } from '../contracts/environment.ts';
import { PROTOCOL_VERSION, type ServeJob } from '../contracts/trainer-protocol.ts';
import { createEmbeddedEngine } from '../serving/embedded-engine.ts';
import { createGateway } from '../serving/gateway.ts';
import { createRoutes, type Routes } from '../serving/routes.ts';
import { createStoreFromEnvironment } from '../storage/open-store.ts';
import { createLog } from '../telemetry/log.ts';
import { findBaseModel } from '../trainer/base-model.ts';
import { orExit, pythonFrom, sayReady } from './process.ts';

/** Sequences that decode at once: on CPUs the rate grows little beyond 8 rows. */
const BATCH_MAX = 8;
/** Answers that wait: four batches, about a minute of work on two cores; a client had better ask elsewhere than wait longer. */
const WAITING_MAX = 32;
/** Tokens of prompt and answer: keys and values of one row of a 135M model then take 94 MB. */
const LENGTH_MAX = 2048;
/** Between looks for new routes, ms; `deploy` waits for the next one. Each is one LIST request. */
const POLL_MS = 2_000;
/** How long a start waits for a store that does not answer, ms; the remembered routes are served anyway. */
const FIRST_SYNC_MS_MAX = 5_000;
/** How long answers under way may go on after SIGTERM, ms. */
const DRAIN_MS_MAX = 2_500;

async function run(): Promise<void> {
  const environment = readEnvironment(process.env);
  const log = createLog('gateway', environment.ANNEAL_LOG_LEVEL);
  const ending = endOnSignal();
  const ended = new Promise<void>((done) => ending.addEventListener('abort', () => done(), { once: true }));
  const base = environment.ANNEAL_SERVE_BASE;
  const folder = join(resolve(environment.ANNEAL_STATE), 'gateway');
  const job: ServeJob = {
    v: PROTOCOL_VERSION,
    command: 'serve',
    baseModel: await findBaseModel(base, resolve(environment.ANNEAL_MODELS)),
    // One core stays free for this process and its neighbours: with every core taken, threads wait for each other.
    threads: Math.max(1, availableParallelism() - 1),
    maxBatch: BATCH_MAX,
    maxLength: LENGTH_MAX,
  };
  const store = createStoreFromEnvironment(environment);
  const python = pythonFrom(environment);
  const engine = createEmbeddedEngine({ python, job, folder: join(folder, 'engine'), waitingMax: WAITING_MAX, log });
  const routes = createRoutes({ store, engine, base, folder, log });
  const app = createGateway({ engine, routes, store, base, lengthMax: LENGTH_MAX, log });

  try {
    await app.listen({ host: environment.ANNEAL_GATEWAY_HOST, port: environment.ANNEAL_GATEWAY_PORT });
    await Promise.race([engine.ready(), ended]);
    await routes.restore();
    void poll(routes, ending);
    await Promise.race([routes.sync(), sleep(FIRST_SYNC_MS_MAX, undefined, { ref: false })]);
    if (!ending.aborted) sayReady();
    log.info('ready', { host: environment.ANNEAL_GATEWAY_HOST, port: environment.ANNEAL_GATEWAY_PORT, base });
    await ended;
  } finally {
    const drained = app.close();
    await Promise.race([drained, sleep(DRAIN_MS_MAX, undefined, { ref: false })]);
    await engine.close(); // what still streams ends with an error
    await Promise.race([drained, sleep(DRAIN_MS_MAX / 5, undefined, { ref: false })]);
    await store.close();
    log.info('ended');
  }
}

/** Looks for new routes until the end; what keeps one from being served is in the log. */
async function poll(routes: Routes, ending: AbortSignal): Promise<void> {
  while (!ending.aborted) {
    await routes.sync();
    await sleep(POLL_MS, undefined, { signal: ending }).catch(() => undefined);
  }
}

function endOnSignal(): AbortSignal {
  const ending = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => ending.abort());
  return ending.signal;
}

orExit(run());
