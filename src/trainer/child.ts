// The Python process next door: reads its events, watches its progress, ends it. One race, and the first reason wins.
// The child leads its own process group, its standard input is the dead man's channel, and it gets no credentials.
// It is started here (`startChild`) or forked by a warm parent (`warm-parent.ts`); from then on both are the same.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { AnnealError } from '../contracts/failure.ts';
import { EXIT_CODES, type Job, type TrainerEvent } from '../contracts/trainer-protocol.ts';
import { type ChildLog, openChildLog } from './child-log.ts';
import { readEvents } from './event-channel.ts';

/** How Python is found and what it may see; made by the worker that reads the environment. */
export interface PythonConfig {
  executable: string;
  /** Folder that holds the package `anneal_trainer`. */
  packageFolder: string;
  /** The child's whole environment, without credentials. */
  environment: Record<string, string>;
}

export interface SuperviseOptions {
  /** Aborting asks for a checkpoint (SIGTERM) and ends the group after the grace. */
  signal?: AbortSignal;
  /** Between SIGTERM and SIGKILL, ms; may depend on why the signal was aborted. */
  graceMs: number | ((reason: unknown) => number);
  /** @returns false when the event is no sign of progress. */
  onEvent: (event: TrainerEvent) => unknown;
  /** Longest time without progress, ms; a child that makes none for longer is killed. null = no limit. */
  silenceMsMax?: (() => number) | null;
}

export interface ChildOptions extends SuperviseOptions {
  python: PythonConfig;
  job: Job;
  /** Working folder: `job.json` and `log.txt` go there. */
  folder: string;
}

export interface ChildEnd {
  /** The first reason for the end, not the last. */
  reason: 'exited' | 'aborted' | 'stalled' | 'flooded' | 'not_started';
  /** Name of the exit code, or `crashed` for other codes and signals. */
  outcome: keyof typeof EXIT_CODES | 'crashed';
  code: number | null;
  signal: string | null;
  /** Sentence of the `failed` event, or the tail of its log. */
  message: string;
  /** The `failed` event's kind, or null when it said nothing. */
  failed: string | null;
  /** What its threads were doing when it stalled, or null. */
  stacks: string | null;
  /** It did not obey SIGTERM in time. */
  forced: boolean;
  /** Lines of garbage on its event channel: the first, or null. */
  garbage: string | null;
  /** Payload of the `done` event. */
  result: unknown;
}

/** For a child that is not started again. @throws AnnealError of the kind of its end. */
export function requireDone({ outcome, message }: ChildEnd, what: string): void {
  if (outcome === 'done') return;
  const isCrash = outcome === 'crashed' || outcome === 'interrupted' || outcome === 'orphaned';
  throw new AnnealError(isCrash ? 'trainer_crashed' : outcome, `${what} ended early: ${message}`);
}

export interface Child {
  pid: number;
  send(command: object): void;
  /** Asks for a checkpoint at the next step edge (SIGUSR2). Only for a trainer that has done a step: before, it would end it. */
  askToSave(): void;
  /** SIGTERM to the group, SIGKILL after the grace. Idempotent. */
  stop(): void;
  ended: Promise<ChildEnd>;
}

/** A process that runs, however it was started. */
export interface RunningProcess {
  pid: number | null;
  input: Writable;
  events: Readable;
  log: ChildLog;
  exited: Promise<Exit>;
  /** Its folder for temporary files, which goes with it: processes that are killed leave some. A fork uses its parent's. */
  temporary?: string;
}

export interface Exit {
  code: number | null;
  signal: string | null;
  startError?: NodeJS.ErrnoException;
}

/** Lines of the log that are kept for the error message. */
const TAIL_LINES = 12;
/** Between looks at progress and log, ms. */
const TICK_MS = 250;
/** A look that comes later than this finds a supervisor that was suspended itself, ms: the child is not to blame for that time. */
const TICK_MS_MAX = 4 * TICK_MS;
/** Between asking for stack dumps and the kill, ms: Python's handler writes them at once or never. */
const DUMP_MS = 500;
/** Of the stack dumps that go into the failure, bytes. */
const DUMP_BYTES_MAX = 4_000;
/** For the rest of the events after the exit, ms: a process of another group may hold the channel open. */
const DRAIN_MS = 2_000;

/** A cold start: `python -m anneal_trainer <job.json>`. */
export function startChild(options: ChildOptions): Child {
  return superviseChild(startPython(options.python, [writeJob(options)], options.folder), options);
}

export function writeJob({ job, folder }: Pick<ChildOptions, 'job' | 'folder'>): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'job.json');
  writeFileSync(file, JSON.stringify(job, null, 2));
  return file;
}

export function startPython(python: PythonConfig, args: string[], folder: string): RunningProcess {
  mkdirSync(folder, { recursive: true });
  const log = openChildLog(join(folder, 'log.txt'));
  const output = openSync(log.path, 'a');
  // Not inside `folder`: sockets are made here, whose paths must be short.
  const temporary = mkdtempSync(join(tmpdir(), 'anneal-'));
  const spawned = spawn(python.executable, ['-m', 'anneal_trainer', ...args], {
    cwd: folder,
    env: {
      ...python.environment,
      TMPDIR: temporary,
      PYTHONPATH: python.packageFolder,
      PYTHONHASHSEED: '0',
      PYTHONUNBUFFERED: '1',
    },
    detached: true,
    stdio: ['pipe', output, output, 'pipe'],
  });
  closeSync(output);
  return {
    pid: spawned.pid ?? null,
    input: spawned.stdin as Writable,
    events: spawned.stdio[3] as Readable,
    log,
    exited: exitOf(spawned),
    temporary,
  };
}

function exitOf(spawned: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    spawned.once('error', (startError) => resolve({ code: null, signal: null, startError }));
    spawned.once('exit', (code, signal) => resolve({ code, signal }));
  });
}

export function superviseChild(running: RunningProcess, options: SuperviseOptions): Child {
  const { pid, log } = running;
  let reason: ChildEnd['reason'] | null = null;
  let failed: { kind: string; message: string } | null = null;
  let result: unknown = null;
  let garbage: string | null = null;
  let stacks: string | null = null;
  let forced = false;
  let silentMs = 0;
  let lookedAt = Date.now();
  let killTimer: NodeJS.Timeout | undefined;
  const kill = () => signalQuietly(pid, 'SIGKILL');

  const stop = () => {
    if (reason !== null || pid === null) return;
    reason = 'aborted';
    signalQuietly(pid, 'SIGTERM');
    const { graceMs } = options;
    killTimer = setTimeout(
      () => {
        forced = true;
        kill();
      },
      typeof graceMs === 'number' ? graceMs : graceMs(options.signal?.reason),
    );
  };

  const killStalled = async () => {
    reason = 'stalled';
    stacks = await dumpStacks(pid as number, log);
    kill();
  };

  const events = readEvents(running.events, {
    onEvent(event) {
      if (event.ev === 'failed') failed = event;
      if (event.ev === 'done') result = event.result;
      if (options.onEvent(event) !== false) silentMs = 0;
    },
    onGarbage(text) {
      garbage ??= text;
    },
    onFlood() {
      reason ??= 'flooded';
      kill();
    },
  });
  running.input.on('error', () => undefined); // the child is gone: its exit says so

  options.signal?.addEventListener('abort', stop, { once: true });
  if (options.signal?.aborted) stop();
  const watchdog = setInterval(() => {
    const now = Date.now();
    silentMs += Math.min(now - lookedAt, TICK_MS_MAX);
    lookedAt = now;
    log.bound();
    const limit = options.silenceMsMax?.();
    if (limit !== undefined && silentMs > limit && reason === null && pid !== null) void killStalled();
  }, TICK_MS);

  const settle = async ({ code, signal, startError }: Exit): Promise<ChildEnd> => {
    kill(); // grandchildren that outlived the leader
    await Promise.race([events, sleep(DRAIN_MS, undefined, { ref: false })]);
    running.events.destroy();
    if (running.temporary !== undefined) rmSync(running.temporary, { recursive: true, force: true, maxRetries: 3 });
    clearInterval(watchdog);
    clearTimeout(killTimer);
    options.signal?.removeEventListener('abort', stop);
    const message = startError?.message ?? failed?.message ?? (log.tail(TAIL_LINES) || describeExit(code, signal));
    const outcome = outcomeOf(code);
    if (startError !== undefined) reason = 'not_started';
    return {
      ...{ reason: reason ?? 'exited', outcome, code, signal, message, failed: failed?.kind ?? null },
      ...{ stacks, forced, garbage, result },
    };
  };

  return {
    pid: pid ?? -1,
    send: (command) => void running.input.write(`${JSON.stringify(command)}\n`),
    askToSave: () => signalQuietly(pid, 'SIGUSR2'),
    stop,
    ended: running.exited.then(settle),
  };
}

/** SIGUSR1 makes Python write what each thread is doing to its log. A process that cannot, such as a suspended one, says nothing. */
async function dumpStacks(pid: number, log: ChildLog): Promise<string | null> {
  const before = log.size();
  signalQuietly(pid, 'SIGUSR1');
  await sleep(DUMP_MS);
  return log.since(before, DUMP_BYTES_MAX).trim() || null;
}

/** To the whole group. */
function signalQuietly(pid: number | null, signal: NodeJS.Signals): void {
  if (pid === null) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // the group is gone
  }
}

function outcomeOf(code: number | null): ChildEnd['outcome'] {
  const known = Object.entries(EXIT_CODES).find(([, value]) => value === code);
  return known ? (known[0] as keyof typeof EXIT_CODES) : 'crashed';
}

function describeExit(code: number | null, signal: string | null): string {
  return signal ? `It was ended by ${signal}.` : `It ended with exit code ${code}.`;
}
