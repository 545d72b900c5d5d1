// Lets one set-up at a time change the project's folder; another one waits for it. The lock of a dead process is taken over.
import { linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { STATE } from './places.mjs';
import { isSameProcess, readStartTicks } from './process-start.mjs';

const LOCK = join(STATE, 'set-up.lock');

/** How often a waiting set-up looks again, ms. */
const POLL_MS = 300;

/** Runs `fn` as the only set-up. `onWait` gets the holder's pid once, if there is one to wait for. */
export async function withLock(fn, onWait) {
  mkdirSync(STATE, { recursive: true });
  let waits = false;
  while (!tryLock()) {
    const holder = readHolder();
    if (holder === null || !isSameProcess(holder)) removeQuietly(LOCK);
    else {
      if (!waits) onWait(holder.pid);
      waits = true;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
  const unlock = () => removeQuietly(LOCK);
  // The `finally` does not run when a signal ends the set-up.
  process.once('exit', unlock);
  try {
    return await fn();
  } finally {
    process.removeListener('exit', unlock);
    unlock();
  }
}

/** The lock appears with its content or not at all, so that nobody takes a half-written one for a dead process's. */
function tryLock() {
  const draft = `${LOCK}.${process.pid}`;
  writeFileSync(draft, JSON.stringify({ pid: process.pid, startTicks: readStartTicks(process.pid) }));
  try {
    linkSync(draft, LOCK);
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    return false;
  } finally {
    removeQuietly(draft);
  }
}

function readHolder() {
  try {
    return JSON.parse(readFileSync(LOCK, 'utf8'));
  } catch {
    return null;
  }
}

function removeQuietly(path) {
  try {
    unlinkSync(path);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
}
