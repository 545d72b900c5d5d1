// The embedded engine: a Python child that is started again when it dies, with the adapters that it held.
// An answer under way does not outlive the child: its reader gets `engine_unavailable` and decides whether to ask again.
import { setTimeout as sleep } from 'node:timers/promises';
import { AnnealError } from '../contracts/failure.ts';
import type { ServeJob, TrainerEvent, TrainerEventOf } from '../contracts/trainer-protocol.ts';
import type { Log } from '../telemetry/log.ts';
import { type Child, type ChildEnd, type PythonConfig, startChild } from '../trainer/child.ts';
import { type Channel, createChannel } from './channel.ts';
import { type Engine, engineUnavailable, type Generated, Refusal } from './engine.ts';

export interface EmbeddedEngineConfig {
  python: PythonConfig;
  job: ServeJob;
  /** Working folder of the child. */
  folder: string;
  /** Answers that wait for a row of the batch; more are refused as `overloaded`. */
  waitingMax: number;
  log: Log;
}

/** Longest silence with work at hand, ms. The longest silent piece of work is a prompt of `maxLength`: seconds on one core. */
const SILENCE_MS_MAX = 120_000;
/** From SIGTERM to SIGKILL, ms. The engine holds nothing that would have to be saved. */
const GRACE_MS = 2_000;
const PAUSE_MS_MIN = 200;
const PAUSE_MS_MAX = 10_000;
/** A child that served this long did not die of its start: the pause begins short again. */
const SETTLED_MS = 60_000;

interface Waiter {
  resolve(): void;
  reject(error: unknown): void;
}

export function createEmbeddedEngine(config: EmbeddedEngineConfig): Engine {
  const answers = new Map<string, Channel<Generated>>();
  const waiters = new Map<string, Waiter>();
  const adapters = new Map<string, string>();
  const closing = new AbortController();
  const answersMax = config.job.maxBatch + config.waitingMax;
  let child: Child | null = null;
  let isReady = false;
  let commands = 0;
  let busySinceMs = Date.now();
  let heardMs = Date.now();
  let onFirstReady: Waiter;
  const firstReady = new Promise<void>((resolve, reject) => {
    onFirstReady = { resolve, reject };
  });
  firstReady.catch(() => undefined); // whoever asks gets it

  const send = (id: string, command: object) => {
    if (answers.size + waiters.size === 0) busySinceMs = Date.now();
    child?.send({ ...command, id });
  };

  const request = (command: object): Promise<void> =>
    new Promise((resolve, reject) => {
      const id = `c${++commands}`;
      send(id, command);
      waiters.set(id, { resolve, reject });
    });

  const receive = (event: TrainerEvent) => {
    heardMs = Date.now();
    switch (event.ev) {
      case 'ready':
        return void reload();
      case 'loaded':
      case 'unloaded':
        return settle(event.id, (waiter) => waiter.resolve());
      case 'token':
        return answers.get(event.id)?.push({ kind: 'text', text: event.text });
      case 'finished':
        return finish(event);
      case 'rejected':
        return reject(event.id, new Refusal(event.code, event.message));
      default:
        return config.log.debug('engine event', event);
    }
  };

  const settle = (id: string, how: (waiter: Waiter) => void) => {
    const waiter = waiters.get(id);
    waiters.delete(id);
    if (waiter !== undefined) how(waiter);
  };

  const finish = ({ id, reason, promptTokens, completionTokens }: TrainerEventOf<'finished'>) => {
    const answer = answers.get(id);
    answers.delete(id);
    answer?.push({ kind: 'finished', reason, promptTokens, completionTokens });
    answer?.end();
  };

  const reject = (id: string, error: unknown) => {
    answers.get(id)?.fail(error);
    answers.delete(id);
    settle(id, (waiter) => waiter.reject(error));
  };

  /** A fresh child gets the adapters of the one before it, then it may answer. */
  const reload = async () => {
    const started = child;
    for (const [adapter, path] of [...adapters]) {
      if (child !== started) return;
      await request({ op: 'load', adapter, path }).catch((error: unknown) => {
        adapters.delete(adapter); // kept, an adapter that kills the engine would kill every next one
        config.log.error('adapter lost at the restart of the engine', { adapter, error: String(error) });
      });
    }
    if (child !== started) return;
    isReady = true;
    config.log.info('engine ready', { pid: started?.pid, adapters: [...adapters.keys()] });
    onFirstReady.resolve();
  };

  const failAll = (why: string) => {
    isReady = false;
    child = null;
    for (const id of [...answers.keys(), ...waiters.keys()]) reject(id, engineUnavailable(why));
  };

  const start = (): Promise<ChildEnd> => {
    heardMs = Date.now();
    busySinceMs = heardMs;
    child = startChild({
      python: config.python,
      job: config.job,
      folder: config.folder,
      graceMs: GRACE_MS,
      onEvent: receive,
      silenceMsMax: () => {
        if (isReady && answers.size + waiters.size === 0) return Number.POSITIVE_INFINITY;
        return SILENCE_MS_MAX + Math.max(0, busySinceMs - heardMs);
      },
    });
    return child.ended;
  };

  /** Lives as long as the engine: start, wait for the end, pause, again. */
  const supervise = async () => {
    let deaths = 0;
    while (!closing.signal.aborted) {
      const startedMs = Date.now();
      const end = await start();
      failAll(closing.signal.aborted ? 'it is being shut down.' : 'it died and is being started again.');
      if (closing.signal.aborted) return;
      config.log.error('engine died', { outcome: end.outcome, signal: end.signal, message: end.message });
      if (end.outcome === 'bad_request') return onFirstReady.reject(new AnnealError('bad_request', end.message));
      deaths = Date.now() - startedMs > SETTLED_MS ? 1 : deaths + 1;
      const pauseMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** (deaths - 1));
      await sleep(pauseMs, undefined, { signal: closing.signal }).catch(() => undefined);
    }
  };
  const supervised = supervise();

  return {
    ready: () => firstReady,
    isReady: () => isReady,
    inFlight: () => answers.size,
    holds: (adapter) => isReady && adapters.has(adapter),

    async load(adapter, path) {
      if (!isReady) throw engineUnavailable('it is starting.');
      await request({ op: 'load', adapter, path });
      adapters.set(adapter, path);
    },

    async unload(adapter) {
      if (!adapters.delete(adapter) || !isReady) return;
      await request({ op: 'unload', adapter }).catch((error: unknown) => {
        if (!(error instanceof AnnealError)) throw error; // a dead engine holds nothing
      });
    },

    generate(wanted, signal) {
      if (!isReady) throw engineUnavailable('it is starting.');
      if (answers.size >= answersMax) {
        throw new Refusal(
          'overloaded',
          `The engine has ${answers.size} answers under way, its limit; try again later.`,
        );
      }
      const id = `g${++commands}`;
      const answer = createChannel<Generated>();
      send(id, { ...wanted, op: 'generate' });
      answers.set(id, answer);
      const cancel = () => {
        if (answers.has(id)) send(id, { op: 'cancel' });
        answer.fail(signal.reason);
      };
      if (signal.aborted) cancel();
      else signal.addEventListener('abort', cancel, { once: true });
      return answer;
    },

    async close() {
      closing.abort();
      child?.stop();
      await supervised;
    },
  };
}
