// Whether a recorded process is still the same one: pids are used again, so the start time must agree too where the system tells it.
import { readFileSync } from 'node:fs';

export function isSameProcess({ pid, startTicks }) {
  if (pid === undefined) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
  return readStartTicks(pid) === startTicks;
}

/** Start time in clock ticks since boot; null for a process that is dead, reaped or not, and where there is no /proc. */
export function readStartTicks(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : fields[19];
  } catch {
    return null;
  }
}
