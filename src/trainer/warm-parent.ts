// Processes that are warm already: a parent with every library imported, and per training a job parent with model and trainer built.
// Each try to train is a fork of the latter and takes a quarter of a second where a cold start takes five.
//
// The parent is an optimisation, never a dependency: whatever is wrong with it, it is killed and the caller starts cold.
// It is made anew when the Python code or its environment has changed since. Not protected: a changed library under the same path.
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type JobParentCommand,
  PROTOCOL_VERSION,
  type PrepareTrainJob,
  type Resume,
  type TrainerEvent,
  type TrainJob,
  type WarmParentCommand,
} from '../contracts/trainer-protocol.ts';
import {
  type Child,
  type ChildOptions,
  type Exit,
  type PythonConfig,
  type SuperviseOptions,
  startPython,
  superviseChild,
  writeJob,
} from './child.ts';
import { openChildLog } from './child-log.ts';

export interface WarmParent {
  /** Starts it ahead of the first use. Returns at once. */
  warmUp(): void;
  /** Runs a job in a fork, as a cold start would; null when it cannot, and then the caller starts cold. */
  run(options: Omit<ChildOptions, 'python'>): Promise<Child | null>;
  /** Builds the trainer of a job; null when it cannot. `resume` of the job does not matter. */
  prepare(job: TrainJob, options: PrepareOptions): Promise<JobParent | null>;
  /** Ends it and everything that it forked. It may be used again and starts anew then. */
  close(): Promise<void>;
}

export interface PrepareOptions {
  /** Working folder of the job parent. */
  folder: string;
  signal: AbortSignal;
  /** Longest time without progress, ms. */
  silenceMsMax: () => number;
  onEvent: (event: TrainerEvent) => unknown;
}

export interface JobParent {
  /** Forks a trainer; null when it cannot, and then it is gone. */
  attempt(resume: Resume, options: SuperviseOptions & { folder: string }): Promise<Child | null>;
  /** Ends it and the trainers that it forked. */
  close(): Promise<void>;
}

/** For importing everything from a cold disk, ms. */
const WARM_MS_MAX = 3 * 60_000;
/** From a command to the fork's first sign, ms: it takes milliseconds, or the parent hangs. */
const FORK_MS_MAX = 5_000;
/** Starts in a row that come to nothing, after which every start is cold until the code or its environment changes. */
const FAILURES_MAX = 2;
/** A parent holds nothing that would have to be saved, ms. */
const PARENT_GRACE_MS = 1_000;

/** @param folder working folder: its log goes there. */
export function createWarmParent(python: PythonConfig, folder: string): WarmParent {
  let current: { key: string; parent: Parent; warm: Promise<boolean> } | null = null;
  /** Starts in a row that came to nothing, for one key. */
  let failures = { key: '', count: 0 };

  const close = async () => {
    const closing = current;
    current = null;
    await closing?.parent.close();
  };

  const parentOf = async (): Promise<Parent | null> => {
    try {
      return await startedParent();
    } catch {
      return null; // no folder, no socket: a cold start says what is wrong
    }
  };

  const startedParent = async (): Promise<Parent | null> => {
    const key = keyOf(python);
    if (current !== null && (current.key !== key || current.parent.isGone())) await close();
    if (failures.key === key && failures.count >= FAILURES_MAX) return null;
    if (current === null) {
      const parent = createParent((onEvent) => startWarmParent(python, folder, onEvent));
      current = { key, parent, warm: parent.waitFor('warm', WARM_MS_MAX) };
    }
    const { parent, warm } = current;
    if (await warm) return parent;
    failures = { key, count: failures.key === key ? failures.count + 1 : 1 };
    await close();
    return null;
  };

  return {
    close,
    warmUp: () => void parentOf(),
    async run(options) {
      const parent = await parentOf();
      return (await parent?.fork({ op: 'run', job: writeJob(options) }, options)) ?? null;
    },
    async prepare(train, options) {
      const parent = await parentOf();
      if (parent === null) return null;
      const job: PrepareTrainJob = { v: PROTOCOL_VERSION, command: 'prepare-train', train };
      return await prepareJob(parent, writeJob({ job, folder: options.folder }), options);
    },
  };
}

function startWarmParent(python: PythonConfig, folder: string, onEvent: (event: TrainerEvent) => void): Child {
  return superviseChild(startPython(python, ['warm-parent'], folder), { graceMs: PARENT_GRACE_MS, onEvent });
}

async function prepareJob(warm: Parent, job: string, options: PrepareOptions): Promise<JobParent | null> {
  let onEvent: (event: TrainerEvent) => void = () => undefined;
  let isPrepared = false;
  // Later it must outlive the abort: with it the kernel would end the trainer, which still saves.
  const preparing = new AbortController();
  const onAbort = () => preparing.abort(options.signal.reason);
  options.signal.addEventListener('abort', onAbort, { once: true });
  const child = await warm.fork(
    { op: 'run', job },
    {
      folder: options.folder,
      signal: preparing.signal,
      graceMs: PARENT_GRACE_MS,
      // While it waits for commands there is nothing to say.
      silenceMsMax: () => (isPrepared ? Number.POSITIVE_INFINITY : options.silenceMsMax()),
      onEvent: (event) => {
        isPrepared ||= event.ev === 'prepared';
        onEvent(event);
        return options.onEvent(event);
      },
    },
  );
  if (child === null) return null;
  const parent = createParent((listener) => {
    onEvent = listener;
    return child;
  });
  const isReady = await parent.waitFor('prepared', null);
  options.signal.removeEventListener('abort', onAbort);
  if (isReady) {
    return { attempt: (resume, its) => parent.fork({ op: 'attempt', resume }, its), close: parent.close };
  }
  await parent.close();
  return null;
}

type Fork =
  | Pick<Extract<WarmParentCommand, { op: 'run' }>, 'op' | 'job'>
  | Pick<Extract<JobParentCommand, { op: 'attempt' }>, 'op' | 'resume'>;

/** A process that forks others on command. */
interface Parent {
  fork(command: Fork, options: SuperviseOptions & { folder: string }): Promise<Child | null>;
  /** Whether the event came in time. */
  waitFor(ev: 'warm' | 'prepared', timeoutMs: number | null): Promise<boolean>;
  isGone(): boolean;
  close(): Promise<void>;
}

function createParent(start: (onEvent: (event: TrainerEvent) => void) => Child): Parent {
  const listeners = new Set<(event: TrainerEvent) => void>();
  let forks = 0;
  let isGone = false;
  const child = start((event) => {
    for (const listener of listeners) listener(event);
  });
  const ended = child.ended.then(() => {
    isGone = true;
  });

  /** The first event that fits, or null when the parent ends before. Listens at once. */
  const next = <T>(pick: (event: TrainerEvent) => T | undefined): Promise<T | null> => {
    let listener: (event: TrainerEvent) => void = () => undefined;
    const found = new Promise<T>((resolve) => {
      listener = (event) => {
        const picked = pick(event);
        if (picked !== undefined) resolve(picked);
      };
      listeners.add(listener);
    });
    return Promise.race([found, ended.then(() => null)]).finally(() => listeners.delete(listener));
  };

  const close = async () => {
    child.send({ op: 'end' });
    child.stop();
    await ended;
  };

  return {
    close,
    isGone: () => isGone,
    async waitFor(ev, timeoutMs) {
      const came = next((event) => (event.ev === ev ? true : undefined));
      return (await (timeoutMs === null ? came : within(timeoutMs, came))) === true;
    },
    async fork(command, options) {
      const forked = isGone ? null : await tryFork(command, options).catch(() => null);
      if (forked === null) await close();
      return forked;
    },
  };

  async function tryFork(command: Fork, options: SuperviseOptions & { folder: string }): Promise<Child | null> {
    const id = `${++forks}`;
    const log = openChildLog(join(options.folder, 'log.txt'));
    const channel = await listenOnce();
    const forked = next((event) => (event.ev === 'forked' && event.id === id ? event.pid : undefined));
    const exited = next((event) => (event.ev === 'exited' && event.id === id ? event : undefined));
    child.send({ ...command, id, channel: channel.path, log: log.path });
    const born = forked.then(async (pid) => (pid === null ? null : { pid, socket: await channel.connected }));
    const fork = await within(FORK_MS_MAX, born);
    channel.close();
    if (fork === null) return null;
    const { pid, socket } = fork;
    // With the parent the kernel ends what it forked.
    const exit = exited.then((event): Exit => event ?? { code: null, signal: 'SIGKILL' });
    return superviseChild({ pid, input: socket, events: socket, log, exited: exit }, options);
  }
}

interface Channel {
  path: string;
  connected: Promise<Socket>;
  /** Stops listening and takes the path away; a connection stays. */
  close(): void;
}

/** In a folder of its own in the system's: a socket's path may have 107 bytes only. */
async function listenOnce(): Promise<Channel> {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-'));
  const path = join(folder, 's');
  const server = createServer();
  const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
  const close = () => {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  };
  return { path, connected, close };
}

async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T | null> {
  const cut = new AbortController();
  try {
    return await Promise.race([work, sleep(timeoutMs, null, { signal: cut.signal }).catch(() => null)]);
  } finally {
    cut.abort();
  }
}

/** Changes with everything that a parent has taken in when it started. */
function keyOf(python: PythonConfig): string {
  const hash = createHash('sha256').update(JSON.stringify(python));
  const files = readdirSync(python.packageFolder, { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.py')).sort()) {
    const { size, mtimeMs } = statSync(join(python.packageFolder, file));
    hash.update(`${file} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex');
}
