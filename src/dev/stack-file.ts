// `<state>/stack.json`: what a running stack tells other processes (addresses, pids), and the lock that lets only one stack own a state folder.
// The file holds the store's generated credentials and is readable by its owner only.
import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import { identifyProcess, isAlive, type ProcessIdentity } from '../trainer/process-identity.ts';
import { DISK_BYTES_MIN, formatGib, freeDiskBytes } from './disk.ts';
import type { StackPorts } from './ports.ts';
import { locateState, type PartName } from './stack-layout.ts';

export interface StackFile {
  v: 1;
  supervisor: ProcessIdentity;
  /** False while the parts start and while they stop. */
  ready: boolean;
  startedAt: string;
  project: string;
  ports: StackPorts;
  webUi: string;
  gateway: string;
  /** Everything that clients and workers need; contains secrets. */
  environment: Record<string, string>;
  /** The process of each part, or null between a death and the restart. */
  parts: Partial<Record<PartName, ProcessIdentity | null>>;
}

/**
 * What the last stack on this state folder wrote, whether it still runs or not; null when there was none.
 * @throws AnnealError `bad_request` when it is not what this version writes.
 */
export function readStack(state: string): StackFile | null {
  const { stackFile } = locateState(state);
  const stack = parseStackFile(readText(stackFile));
  if (stack !== undefined) return stack;
  throw new AnnealError(
    'bad_request',
    `${stackFile} is damaged or was written by another version of Anneal; end that stack with \`anneal down\` of its version, or end its processes and delete the file.`,
  );
}

function readText(stackFile: string): string | null {
  try {
    return readFileSync(stackFile, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    throw new AnnealError(
      'bad_request',
      `${stackFile} cannot be read (${code}); set ANNEAL_STATE to a folder that you may use.`,
      { cause: error },
    );
  }
}

/** undefined for text that is no stack file of this version. */
function parseStackFile(text: string | null): StackFile | null | undefined {
  if (text === null) return null;
  try {
    const stack = JSON.parse(text) as Partial<StackFile> | null;
    const isWhole = stack?.v === 1 && stack.supervisor && stack.parts && stack.ports && stack.environment;
    return isWhole ? (stack as StackFile) : undefined;
  } catch {
    return undefined;
  }
}

/** The stack of this state folder, if its supervisor lives. */
export function readRunningStack(state: string): StackFile | null {
  const stack = readStack(state);
  return stack !== null && isAlive(stack.supervisor) ? stack : null;
}

/** @throws AnnealError `bad_request` when it cannot be a folder, or its disk is nearly full. */
export function makeStateFolder(state: string): void {
  const free = freeDiskBytes(state);
  if (free < DISK_BYTES_MIN) {
    throw new AnnealError(
      'bad_request',
      `The disk of the state folder ${state} has ${formatGib(free)} free and a stack needs ${formatGib(DISK_BYTES_MIN)}; free space, or set ANNEAL_STATE to a folder on another disk.`,
    );
  }
  try {
    makeFolder(locateState(state).logFolder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new AnnealError(
      'bad_request',
      `The state folder ${state} cannot be made (${code}); set ANNEAL_STATE to a folder that you may use.`,
      { cause: error },
    );
  }
}

/** One level at a time: Node's recursive `mkdir` never returns in file systems that take no folders, such as /proc. */
function makeFolder(folder: string): void {
  if (existsSync(folder)) return;
  makeFolder(dirname(folder));
  try {
    mkdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** @throws AnnealError `bad_request` when it cannot be written; the file that was there stays. */
export function writeStack(state: string, stack: StackFile): void {
  const { stackFile } = locateState(state);
  const draft = `${stackFile}.${process.pid}`;
  try {
    writeFileSync(draft, `${JSON.stringify(stack, null, 2)}\n`, { mode: 0o600 });
    renameSync(draft, stackFile);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new AnnealError('bad_request', `${stackFile} cannot be written (${code}); look at its disk's free space.`, {
      cause: error,
    });
  }
}

export function removeStackFile(state: string): void {
  rmSync(locateState(state).stackFile, { force: true });
}

/**
 * Makes this process the owner of the state folder.
 * @throws AnnealError `bad_request` while another stack owns it.
 */
export function lockState(state: string): void {
  const { lockFile } = locateState(state);
  if (tryLock(lockFile)) return;
  const holder = readLockHolder(lockFile);
  if (holder !== null && isAlive(holder)) {
    throw new AnnealError(
      'bad_request',
      `A stack runs on ${state} already (supervisor pid ${holder.pid}); end it with \`anneal down\` first.`,
    );
  }
  rmSync(lockFile, { force: true });
  if (!tryLock(lockFile))
    throw new AnnealError('bad_request', `Another stack starts on ${state} right now; wait for it.`);
}

export function unlockState(state: string): void {
  const { lockFile } = locateState(state);
  if (readLockHolder(lockFile)?.pid === process.pid) rmSync(lockFile, { force: true });
}

/** The lock appears with its content or not at all, so that no reader takes a half-written one for stale. */
function tryLock(lockFile: string): boolean {
  const draft = `${lockFile}.${process.pid}`;
  writeFileSync(draft, JSON.stringify(identifyProcess(process.pid)));
  try {
    linkSync(draft, lockFile);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function readLockHolder(lockFile: string): ProcessIdentity | null {
  try {
    return JSON.parse(readFileSync(lockFile, 'utf8')) as ProcessIdentity;
  } catch {
    return null;
  }
}
