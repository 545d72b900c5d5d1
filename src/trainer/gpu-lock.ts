// One trainer per GPU set and host. Two attempts can meet in one worker process (after a server outage) or in two (after a restart);
// the second waits until the first has let go. Across processes the lock is a file made with `wx` that names its holder.
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import { identifyProcess, isAlive, type ProcessIdentity } from './process-identity.ts';

/** Between looks at a lock that another holds, ms. */
const POLL_MS = 100;
/** A holder saves a checkpoint and ends; more than that means that it hangs, ms. */
const WAIT_MS_MAX = 120_000;

let holderHere: Promise<unknown> = Promise.resolve();

/** @throws AnnealError `preempted` when the holder does not let go in time. */
export async function withGpuLock<T>(state: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const before = holderHere;
  let release: () => void = () => undefined;
  holderHere = new Promise<void>((resolve) => {
    release = resolve;
  });
  try {
    await before;
    signal.throwIfAborted();
    const file = await acquire(state, signal);
    try {
      return await work();
    } finally {
      await rm(file, { force: true });
    }
  } finally {
    release();
  }
}

async function acquire(state: string, signal: AbortSignal): Promise<string> {
  const file = join(state, 'gpu', 'lock.json');
  await mkdir(join(state, 'gpu'), { recursive: true });
  const deadline = Date.now() + WAIT_MS_MAX;
  for (;;) {
    signal.throwIfAborted();
    const handle = await open(file, 'wx').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') return null;
      throw error;
    });
    if (handle !== null) {
      await handle.writeFile(JSON.stringify(identifyProcess(process.pid)));
      await handle.close();
      return file;
    }
    const holder = await readHolder(file);
    if (holder !== null && (!isAlive(holder) || holder.pid === process.pid)) await rm(file, { force: true });
    else if (Date.now() > deadline) {
      throw new AnnealError(
        'preempted',
        `The GPU of this host is held by process ${holder?.pid ?? 'unknown'} for more than ${WAIT_MS_MAX / 1000} s; look at ${file}.`,
      );
    } else await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** null while the holder is still writing it. */
async function readHolder(file: string): Promise<ProcessIdentity | null> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as ProcessIdentity;
  } catch {
    return null;
  }
}
