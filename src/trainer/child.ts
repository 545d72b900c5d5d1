// The Python process next door: starts it, reads its events, ends it. One race, and the first reason wins.
// The child is its own process group, its standard input is the dead man's channel, and it gets no credentials.
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { EventSchema, EXIT_CODES, type Job, type TrainerEvent } from '../contracts/trainer-protocol.ts';

/** How Python is found and what it may see; made by the worker that reads the environment. */
export interface PythonConfig {
  executable: string;
  /** Folder that holds the package `anneal_trainer`. */
  packageFolder: string;
  /** The child's whole environment, without credentials. */
  environment: Record<string, string>;
}

export interface ChildOptions {
  python: PythonConfig;
  job: Job;
  /** Working folder: `job.json` and `log.txt` go there. */
  folder: string;
  /** Aborting asks for a checkpoint (SIGTERM) and ends the group after the grace. */
  signal?: AbortSignal;
  /** Between SIGTERM and SIGKILL, ms. */
  graceMs: number;
  onEvent: (event: TrainerEvent) => void;
  /** Longest silence by phase, ms; a child that says nothing for longer is killed. null = no limit. */
  silenceMsMax?: (() => number) | null;
}

export interface ChildEnd {
  /** The first reason for the end, not the last. */
  reason: 'exited' | 'aborted' | 'stalled';
  /** Name of the exit code, or `crashed` for other codes and signals. */
  outcome: keyof typeof EXIT_CODES | 'crashed';
  code: number | null;
  signal: string | null;
  /** Sentence of the `failed` event, or the tail of standard error. */
  message: string;
  /** Payload of the `done` event. */
  result: unknown;
}

export interface Child {
  pid: number;
  send(command: object): void;
  /** SIGTERM to the group, SIGKILL after the grace. Idempotent. */
  stop(): void;
  ended: Promise<ChildEnd>;
}

/** Lines of standard error that are kept for the error message. */
const TAIL_LINES = 12;
/** Longest event line, characters; longer ones are not events. */
const EVENT_LINE_MAX = 1_000_000;

export function startChild(options: ChildOptions): Child {
  mkdirSync(options.folder, { recursive: true });
  const jobFile = join(options.folder, 'job.json');
  writeFileSync(jobFile, JSON.stringify(options.job, null, 2));
  const spawned = spawn(options.python.executable, ['-m', 'anneal_trainer', jobFile], {
    cwd: options.folder,
    env: {
      ...options.python.environment,
      PYTHONPATH: options.python.packageFolder,
      PYTHONHASHSEED: '0',
      PYTHONUNBUFFERED: '1',
    },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
  });
  const supervision = supervise(spawned, options);
  return {
    pid: spawned.pid ?? -1,
    send: (command) => void spawned.stdin?.write(`${JSON.stringify(command)}\n`),
    stop: () => supervision.stop('aborted'),
    ended: supervision.ended,
  };
}

function supervise(child: ChildProcess, options: ChildOptions) {
  let reason: ChildEnd['reason'] | null = null;
  let failed: string | null = null;
  let result: unknown = null;
  let lastHeard = Date.now();
  let killTimer: NodeJS.Timeout | undefined;
  const tail: string[] = [];

  const stop = (why: ChildEnd['reason']) => {
    if (reason !== null) return;
    reason = why;
    signalGroup(child, why === 'stalled' ? 'SIGKILL' : 'SIGTERM');
    killTimer = setTimeout(() => signalGroup(child, 'SIGKILL'), options.graceMs);
  };

  const events = readLines(child.stdio[3] as Readable, (line) => {
    lastHeard = Date.now();
    const event = parseEvent(line);
    if (event === null) {
      remember(tail, `not an event: ${line.slice(0, 200)}`);
      return;
    }
    if (event.ev === 'failed') failed = event.message;
    if (event.ev === 'done') result = event.result;
    options.onEvent(event);
  });
  const log = createWriteStream(join(options.folder, 'log.txt'), { flags: 'a' });
  child.stdout?.pipe(log, { end: false });
  const errors = readLines(child.stderr as Readable, (line) => {
    log.write(`${line}\n`);
    remember(tail, line);
  });
  child.stdin?.on('error', () => undefined); // the child is gone: its exit says so

  const onAbort = () => stop('aborted');
  options.signal?.addEventListener('abort', onAbort, { once: true });
  if (options.signal?.aborted) onAbort();
  const watchdog = setInterval(() => {
    const limit = options.silenceMsMax?.();
    if (limit !== undefined && Date.now() - lastHeard > limit) stop('stalled');
  }, 1000);

  const ended = new Promise<ChildEnd>((resolve) => {
    const settle = async (code: number | null, signal: string | null, startError?: Error) => {
      clearInterval(watchdog);
      clearTimeout(killTimer);
      options.signal?.removeEventListener('abort', onAbort);
      signalGroup(child, 'SIGKILL'); // grandchildren that outlived the leader
      await Promise.all([events, errors]);
      log.end();
      const message = startError?.message ?? failed ?? (tail.join('\n') || describeExit(code, signal));
      resolve({ reason: reason ?? 'exited', outcome: outcomeOf(code), code, signal, message, result });
    };
    child.once('error', (error) => void settle(null, null, error));
    child.once('exit', (code, signal) => void settle(code, signal));
  });
  return { stop, ended };
}

/** Ends when the stream does; never rejects. Grandchildren that keep the pipe open are killed with the group first. */
function readLines(stream: Readable, onLine: (line: string) => void): Promise<void> {
  return new Promise((resolve) => {
    const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
    lines.on('line', onLine);
    lines.once('close', resolve);
    stream.once('error', () => lines.close());
  });
}

function parseEvent(line: string): TrainerEvent | null {
  if (line.length > EVENT_LINE_MAX) return null;
  try {
    const parsed = EventSchema.safeParse(JSON.parse(line));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

function remember(tail: string[], line: string): void {
  tail.push(line);
  if (tail.length > TAIL_LINES) tail.shift();
}

function outcomeOf(code: number | null): ChildEnd['outcome'] {
  const known = Object.entries(EXIT_CODES).find(([, value]) => value === code);
  return known ? (known[0] as keyof typeof EXIT_CODES) : 'crashed';
}

function describeExit(code: number | null, signal: string | null): string {
  return signal ? `It was ended by ${signal}.` : `It ended with exit code ${code}.`;
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // the group is gone
  }
}
