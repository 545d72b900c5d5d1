// What every Temporal worker does: read the environment, prove the store, connect, poll, say when it is ready, end on SIGTERM.
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { NativeConnection, Runtime, Worker, type WorkerOptions } from '@temporalio/worker';
import type { Parts } from '../activities/parts.ts';
import { type Environment, readEnvironment } from '../contracts/environment.ts';
import { createStoreFromEnvironment, probeStore } from '../storage/open-store.ts';
import { createLog, type Log } from '../telemetry/log.ts';
import { pythonFrom, sayReady } from './process.ts';
import { createSdkLogger } from './sdk-log.ts';

export interface WorkerSetup {
  environment: Environment;
  parts: Parts;
  log: Log;
}

/** For the first connections to Temporal and to the store, ms; whoever starts the worker starts it again after that. */
const CONNECT_MS_MAX = 60_000;
/** Between tries, ms. */
const RETRY_MS = 500;

/** Runs a worker until it is told to end. `configure` makes what is special about it. */
export async function startWorker(
  name: 'control' | 'data' | 'gpu',
  configure: (setup: WorkerSetup) => Promise<Pick<WorkerOptions, 'taskQueue'> & Partial<WorkerOptions>>,
): Promise<void> {
  const environment = readEnvironment(process.env);
  const log = createLog(name, environment.ANNEAL_LOG_LEVEL);
  Runtime.install({ logger: createSdkLogger(log), shutdownSignals: ['SIGINT', 'SIGTERM'] });
  const store = createStoreFromEnvironment(environment);
  await retry('the object store', log, () => probeStore(store));
  const connection = await retry('Temporal', log, () =>
    NativeConnection.connect({ address: environment.ANNEAL_TEMPORAL_ADDRESS }),
  );
  const parts: Parts = {
    store,
    python: pythonFrom(environment),
    state: resolve(environment.ANNEAL_STATE),
    models: resolve(environment.ANNEAL_MODELS),
    examples: resolve(environment.ANNEAL_EXAMPLES),
    host: hostname(),
    gatewayUrl: environment.ANNEAL_GATEWAY_URL,
  };
  const options = await configure({ environment, parts, log });
  const worker = await Worker.create({
    connection,
    namespace: environment.ANNEAL_TEMPORAL_NAMESPACE,
    identity: `${name}@${hostname()}`,
    // Details stay fresh, cancels arrive within a second, and an outage nearly as long as the heartbeat timeout is survived.
    maxHeartbeatThrottleInterval: '1s',
    defaultHeartbeatThrottleInterval: '1s',
    ...options,
  });
  const running = worker.run();
  sayReady();
  log.info('polling', { taskQueue: options.taskQueue });
  await running;
  await connection.close();
  await store.close();
  log.info('ended');
}

async function retry<T>(what: string, log: Log, work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + CONNECT_MS_MAX;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (Date.now() > deadline || (error as { kind?: string }).kind === 'bad_request') throw error;
      log.warn(`waiting for ${what}`, { error: error instanceof Error ? error.message : String(error) });
      await new Promise((tick) => setTimeout(tick, RETRY_MS));
    }
  }
}
