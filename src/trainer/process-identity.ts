// Which process is meant: a pid together with the time its process started, because pids are used again.
// A process in state Z (dead, not yet reaped) counts as gone once its last thread is: till then its ports and locks are still taken.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProcessIdentity {
  pid: number;
  /** Start time as the system tells it: clock ticks since boot on Linux, a date elsewhere. Compared, never parsed. */
  startTicks: string;
}

/** How often a dying process is looked at, ms. */
const POLL_MS = 25;

/** After SIGKILL only the kernel stands between a process and its end; this long is waited for it, ms. */
export const KILL_WAIT_MS = 5_000;

/** The process that has this pid now, or null when there is none. */
export function identifyProcess(pid: number): ProcessIdentity | null {
  const startTicks = process.platform === 'linux' ? readStartFromProc(pid) : readStartFromPs(pid);
  return startTicks === null ? null : { pid, startTicks };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.startTicks === identity.startTicks;
}

/** Ends a process and its group: SIGTERM, wait, SIGKILL. Does nothing to another process that has got the pid since. */
export async function endProcessGroup(identity: ProcessIdentity, graceMs: number): Promise<void> {
  if (!isAlive(identity)) return;
  signalGroup(identity.pid, 'SIGTERM');
  await waitUntilGone(identity, graceMs);
  // Also when the leader left in time: what it started may still be there.
  signalGroup(identity.pid, 'SIGKILL');
  if (!(await waitUntilGone(identity, KILL_WAIT_MS))) {
    throw new Error(`Process ${identity.pid} is still there ${KILL_WAIT_MS} ms after SIGKILL; end it by hand.`);
  }
}

/** @returns whether the process is gone. */
export async function waitUntilGone(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (isAlive(identity)) {
    if (performance.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** Signals every process of the group that `pid` leads, also when the leader itself has gone. No process left is no error. */
export function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function readStartFromProc(pid: number): string | null {
  try {
    // The command's name is in brackets and may hold anything, so fields are counted after the last bracket: state is field 3, threads 20, start time 22.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const hasEnded = fields[0] === 'X' || (fields[0] === 'Z' && Number(fields[17]) <= 1);
    return hasEnded ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

function readStartFromPs(pid: number): string | null {
  try {
    const line = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    return line === '' || line.startsWith('Z') ? null : line.slice(line.indexOf(' ')).trim();
  } catch {
    return null;
  }
}
