// Starts this project's reader programs: hostile files are read in processes that have no environment, may start nothing, and are bounded.
import { type ChildProcess, type ForkOptions, fork } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** How often a child's memory is looked at, ms. */
const LOOK_MS = 200;
const PAGE_BYTES = 4096;

export interface ChildLimits {
  memoryBytesMax: number;
  /** More of what it may do: addons of native code. */
  addons?: boolean;
}

export type EndReason = 'memory' | 'time' | null;

export interface Reader {
  process: ChildProcess;
  /** Ends it; the first reason counts. */
  end(reason: EndReason): void;
  /** Why it was ended; null = by itself, or because nobody reads on. */
  endedFor(): EndReason;
}

/** @param program name of the file beside this one, without its extension. */
export function startReader(program: string, args: string[], limits: ChildLimits, options: ForkOptions = {}): Reader {
  const path = fileURLToPath(new URL(`./${program}${extname(import.meta.url)}`, import.meta.url));
  const child = fork(path, args, {
    env: {},
    execArgv: [
      ...['--permission', '--allow-fs-read=*', '--no-warnings', `--max-old-space-size=${heapMiB(limits)}`],
      ...(limits.addons ? ['--allow-addons'] : []),
    ],
    ...options,
  });
  let reason: EndReason = null;
  const end = (why: EndReason) => {
    if (child.exitCode !== null || child.signalCode !== null || child.killed) return;
    reason = why;
    child.kill('SIGKILL');
  };
  const watch = setInterval(async () => {
    if ((await residentBytes(child.pid)) > limits.memoryBytesMax) end('memory');
  }, LOOK_MS);
  watch.unref();
  child.once('exit', () => clearInterval(watch));
  child.once('error', () => clearInterval(watch));
  return { process: child, end, endedFor: () => reason };
}

function heapMiB({ memoryBytesMax }: ChildLimits): number {
  return Math.floor(memoryBytesMax / 2 / 1024 ** 2);
}

/** 0 where the system does not tell; the limit of the heap holds there alone. */
async function residentBytes(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${pid}/statm`, 'utf8').catch(() => '');
  return Number(text.split(' ')[1] ?? 0) * PAGE_BYTES;
}
