// What every Temporal worker does: read the environment, prove the store, connect, poll, say when it is ready, end on SIGTERM.
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { Client } from '@temporalio/client';
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
  client: Client;
}

export type Polling = Pick<WorkerOptions, 'taskQueue'> & Partial<WorkerOptions>;

/** For the first connections to Temporal and to the store, ms; whoever starts the worker starts it again after that. */
const CONNECT_MS_MAX = 60_000;
/** Between tries, ms. */
const RETRY_MS = 500;

/** Runs a process's workers until it is told to end. `configure` makes what is special about them: one for each queue that it polls. */
export async function startWorker(
  name: 'control' | 'data' | 'gpu',
  configure: (setup: WorkerSetup) => Promise<Polling | Polling[]>,
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
    host: environment.ANNEAL_HOST_NAME || hostname(),
    gatewayUrl: environment.ANNEAL_GATEWAY_URL,
  };
  const namespace = environment.ANNEAL_TEMPORAL_NAMESPACE;
  const client = new Client({ connection, namespace });
  const pollings = [await configure({ environment, parts, log, client })].flat();
  const workers = await Promise.all(
    pollings.map((options) =>
      Worker.create({
        connection,
        namespace,
        identity: `${name}@${parts.host}`,
        // Details stay fresh, cancels arrive within a second, and an outage nearly as long as the heartbeat timeout is survived.
        maxHeartbeatThrottleInterval: '1s',
        defaultHeartbeatThrottleInterval: '1s',
        ...options,
      }),
    ),
  );
  const running = Promise.all(workers.map((worker) => worker.run()));
  sayReady();
  for (const { taskQueue } of pollings) log.info('polling', { taskQueue });
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
