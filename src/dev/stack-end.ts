// Ends stacks of other processes: one that runs, or what a killed supervisor left behind, found by pid and start time.
import { resolve } from 'node:path';
import { endProcessGroup, isAlive, waitUntilGone } from '../trainer/process-identity.ts';
import { readStack, removeStackFile, type StackFile } from './stack-file.ts';
import { PART_NAMES, type PartName, SERVER_PARTS } from './stack-layout.ts';

/** A supervisor that is asked to end its stack needs as long as its slowest worker and server, ms. */
const SUPERVISOR_STOP_MS = 30_000;

/** Ends the stack of a state folder, whoever started it. Names the parts that ran. */
export async function stopStack(state: string): Promise<{ stopped: PartName[] }> {
  const folder = resolve(state);
  const stack = readStack(folder);
  if (stack === null) return { stopped: [] };
  const stopped = PART_NAMES.filter((name) => isPartAlive(stack, name));
  if (isAlive(stack.supervisor)) {
    process.kill(stack.supervisor.pid, 'SIGTERM');
    await waitUntilGone(stack.supervisor, SUPERVISOR_STOP_MS);
  }
  await endParts(stack);
  removeStackFile(folder);
  return { stopped };
}

export async function endLeftovers(state: string, onLine: (line: string) => void): Promise<void> {
  const left = readStack(state);
  if (left === null) return;
  const alive = PART_NAMES.filter((name) => isPartAlive(left, name));
  if (alive.length > 0) onLine(`ending what a killed supervisor left behind: ${alive.join(', ')}`);
  await endParts(left);
  removeStackFile(state);
}

async function endParts(stack: StackFile): Promise<void> {
  const end = async (name: PartName) => {
    const identity = stack.parts[name];
    if (identity) await endProcessGroup(identity, SERVER_PARTS.includes(name) ? 3_000 : 10_000);
  };
  await Promise.all(PART_NAMES.filter((name) => !SERVER_PARTS.includes(name)).map(end));
  await Promise.all(SERVER_PARTS.map(end));
}

function isPartAlive(stack: StackFile, name: PartName): boolean {
  const identity = stack.parts[name];
  return identity !== null && identity !== undefined && isAlive(identity);
}
