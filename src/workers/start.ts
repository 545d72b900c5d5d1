// What every worker does: read the environment, prove the store, connect, poll, say when it is ready, end on SIGTERM.
import { mkdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { NativeConnection, Runtime, Worker, type WorkerOptions } from '@temporalio/worker';
import type { Parts } from '../activities/parts.ts';
import { type Environment, readEnvironment } from '../contracts/environment.ts';
import { createStoreFromEnvironment, probeStore } from '../storage/open-store.ts';
import { PROJECT_FOLDER } from '../telemetry/code-identity.ts';
import { createLog, type Log } from '../telemetry/log.ts';

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
  Runtime.install({ logger: sdkLogger(log), shutdownSignals: ['SIGINT', 'SIGTERM'] });
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

/** Whoever started this process may wait for the file. */
export function sayReady(): void {
  const file = process.env.ANNEAL_READY_FILE;
  if (!file) return;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, String(process.pid));
}

/** Python sees what it needs to run and nothing else: no credentials, no addresses. */
export function pythonFrom(environment: Environment): Parts['python'] {
  const passed = [
    'PATH',
    'HOME',
    'LANG',
    'LC_ALL',
    'TMPDIR',
    'LD_LIBRARY_PATH',
    'CUDA_VISIBLE_DEVICES',
    'NVIDIA_VISIBLE_DEVICES',
  ];
  const visible = passed.flatMap((key) => (process.env[key] === undefined ? [] : [[key, process.env[key]] as const]));
  return {
    executable: environment.ANNEAL_PYTHON,
    packageFolder: join(PROJECT_FOLDER, 'gpu-activity-image'),
    environment: Object.fromEntries(visible) as Record<string, string>,
  };
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

function sdkLogger(log: Log) {
  const write = (level: keyof Log) => (message: string, meta?: Record<string, unknown>) =>
    log[level](
      message,
      meta === undefined
        ? {}
        : { meta: JSON.parse(JSON.stringify(meta, (_k, v) => (typeof v === 'bigint' ? String(v) : v))) },
    );
  return {
    log: (level: string, message: string, meta?: Record<string, unknown>) =>
      write(level === 'ERROR' ? 'error' : level === 'WARN' ? 'warn' : 'info')(message, meta),
    trace: () => undefined,
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  };
}

/** Ends the process with one sentence when a worker cannot start or breaks. */
export function orExit(running: Promise<void>): void {
  running.then(
    () => process.exit(0),
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
      process.exit(1);
    },
  );
}
