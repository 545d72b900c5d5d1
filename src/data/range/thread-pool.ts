// The threads in which ranges are cleaned. One that is through is kept for the next range for a while: starting one takes as long as
// cleaning 30 MB, and its code has yet to get warm.
import { getCompileCacheDir } from 'node:module';
import { dirname } from 'node:path';
import { Worker } from 'node:worker_threads';

/** Heap of a thread, MiB: the longest row as text, its values and its JSON again are about 100; buffers lie outside. */
export const HEAP_MIB_MAX = 512;

/** Its part for what was made lately, MiB: rows live no longer, and V8's own limit costs 80 MiB more for the same speed. */
const YOUNG_MIB_MAX = 24;

/** Longest time without work: a data worker goes from range to range in less. */
const IDLE_MS_MAX = 5_000;

/** The compiled program has compiled files. */
const ENTRY = new URL(import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js', import.meta.url);

interface IdleThread {
  worker: Worker;
  /** Ends it. */
  timer: NodeJS.Timeout;
}

const idle: IdleThread[] = [];

/** A thread that has nothing to do. It keeps the process alive until it is given back or ended. */
export function takeThread(): Worker {
  const kept = idle.pop();
  if (kept === undefined)
    return new Worker(ENTRY, {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX, maxYoungGenerationSizeMb: YOUNG_MIB_MAX },
      env: compileCache(),
      execArgv: [],
    });
  clearTimeout(kept.timer);
  forgetListeners(kept.worker);
  kept.worker.ref();
  return kept.worker;
}

/** Where the process keeps compiled sources, there a thread finds them, too: they are half of what starting one takes. */
export function compileCache(): Record<string, string> {
  // Node names the folder of its own version in the one that it was given.
  const own = getCompileCacheDir();
  return own === undefined ? {} : { NODE_COMPILE_CACHE: dirname(own) };
}

/** Of a thread that did what it was told; any other is to be terminated. */
export function giveBack(worker: Worker): void {
  forgetListeners(worker);
  const forget = () => {
    const at = idle.findIndex((one) => one.worker === worker);
    if (at !== -1) clearTimeout(idle.splice(at, 1)[0]?.timer);
  };
  worker.on('error', forget);
  worker.on('exit', forget);
  worker.unref();
  const timer = setTimeout(() => void worker.terminate(), IDLE_MS_MAX).unref();
  idle.push({ worker, timer });
}

/** For whoever needs memory rather than a thread that is warm. */
export async function endIdleThreads(): Promise<void> {
  await Promise.all(
    idle.splice(0).map(({ worker, timer }) => {
      clearTimeout(timer);
      return worker.terminate();
    }),
  );
}

/** Of these events only: others are the worker's own business. */
function forgetListeners(worker: Worker): void {
  for (const event of ['message', 'error', 'exit']) worker.removeAllListeners(event);
}
