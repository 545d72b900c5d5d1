// Warm state as the supervisor sees it: which step a folder in shared memory holds whole, and when such folders go.
// The trainer writes and reads the state itself; here only the first block of each slot is read.
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { type WarmSchema, type WarmStateHeader, WarmStateHeaderSchema } from '../contracts/trainer-protocol.ts';

export interface WarmState {
  claim: number;
  lineage: string;
  step: number;
  folder: string;
}

/** Commit word and header, bytes. */
const BLOCK_BYTES = 4096;
const WORD_BYTES = 8;
/** Of the free shared memory, what warm state may take. The rest is for dataloaders and for whatever else runs here. */
const SHARE_OF_FREE = 0.8;
/** Warm state of a run that nobody came back for, ms. */
const AGE_MS_MAX = 24 * 60 * 60_000;

/** This host's folder for warm state, or null where there is no shared memory. Hosts of several stacks keep them apart by `state`. */
export async function openWarmRoot(sharedMemory: string | null, state: string): Promise<string | null> {
  if (sharedMemory === null || (await stat(sharedMemory).catch(() => null)) === null) return null;
  const root = join(sharedMemory, `anneal-${createHash('sha256').update(state).digest('hex').slice(0, 12)}`);
  const made = await mkdir(root, { recursive: true, mode: 0o700 }).then(
    () => true,
    () => false,
  );
  return made ? root : null;
}

export function warmFolder(root: string, run: string, claim: number): string {
  return join(root, run, `claim-${claim}`);
}

/** What a trainer needs to keep its warm state. */
export async function describeWarm(
  root: string,
  of: { run: string; claim: number; lineage: string },
  hosts = 1,
): Promise<z.infer<typeof WarmSchema>> {
  const { bavail, bsize } = await statfs(root);
  // Of all ranks; each host holds its own.
  const bytesMax = Math.floor(SHARE_OF_FREE * bavail * bsize) * hosts;
  return { ...of, folder: warmFolder(root, of.run, of.claim), bytesMax, everySteps: null };
}

/** Whole warm states of a run under any claim. */
export async function listWarmStates(root: string, run: string): Promise<WarmState[]> {
  const found: WarmState[] = [];
  for (const entry of await readdir(join(root, run)).catch(() => [])) {
    const folder = join(root, run, entry);
    const state = await readWarmState(folder, run);
    if (state !== null && folder === warmFolder(root, run, state.claim)) found.push(state);
  }
  return found;
}

/** The newest step that all ranks hold, or null when there is none. */
async function readWarmState(folder: string, run: string): Promise<WarmState | null> {
  const first = await readSlots(folder, 0);
  const processes = first[0]?.processes ?? 0;
  const ranks = [
    first,
    ...(await Promise.all(Array.from({ length: processes - 1 }, (_, i) => readSlots(folder, i + 1)))),
  ];
  const common = first
    .map(({ step }) => step)
    .filter((step) => ranks.every((slots) => slots.some((slot) => slot.step === step)));
  const step = Math.max(...common);
  const atStep = ranks.map((slots) => slots.find((slot) => slot.step === step));
  const [header] = atStep;
  if (header === undefined || atStep.some((slot) => slot === undefined)) return null;
  const isOne = atStep.every(
    (slot) => slot?.lineage === header.lineage && slot.claim === header.claim && slot.run === run,
  );
  return isOne ? { claim: header.claim, lineage: header.lineage, step, folder } : null;
}

/** The steps that each of these ranks holds whole, under any claim: what one host of a gang has. */
export async function listWarmSteps(root: string, run: string, ranks: number[]): Promise<Omit<WarmState, 'folder'>[]> {
  const found: Omit<WarmState, 'folder'>[] = [];
  for (const entry of await readdir(join(root, run)).catch(() => [])) {
    const folder = join(root, run, entry);
    const [first = [], ...others] = await Promise.all(ranks.map((rank) => readSlots(folder, rank)));
    const common = first.filter(({ step, claim, lineage }) =>
      others.every((slots) => slots.some((its) => its.step === step && its.claim === claim && its.lineage === lineage)),
    );
    const ours = common.filter((slot) => slot.run === run && folder === warmFolder(root, run, slot.claim));
    found.push(...ours.map(({ claim, lineage, step }) => ({ claim, lineage, step })));
  }
  return found;
}

async function readSlots(folder: string, rank: number): Promise<WarmStateHeader[]> {
  const slots = await Promise.all([0, 1].map((slot) => readHeader(join(folder, `rank-${rank}.slot-${slot}`))));
  return slots.filter((slot) => slot !== null);
}

/** null when the slot is missing, half-written or not what a header is. */
async function readHeader(file: string): Promise<WarmStateHeader | null> {
  const handle = await open(file, 'r').catch(() => null);
  if (handle === null) return null;
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(BLOCK_BYTES), 0, BLOCK_BYTES, 0);
    if (bytesRead < BLOCK_BYTES) return null;
    const end = buffer.indexOf(0, WORD_BYTES);
    const header = WarmStateHeaderSchema.parse(
      JSON.parse(buffer.toString('utf8', WORD_BYTES, end === -1 ? BLOCK_BYTES : end)),
    );
    return buffer.readBigUInt64LE(0) === BigInt(header.step) + 1n ? header : null;
  } catch {
    return null;
  } finally {
    await handle.close();
  }
}

/** Another claim's warm state is older than what this claim has in the store. */
export async function deleteOtherWarmStates(root: string, run: string, ...claims: number[]): Promise<void> {
  const kept = claims.map((claim) => warmFolder(root, run, claim));
  for (const entry of await readdir(join(root, run)).catch(() => [])) {
    const folder = join(root, run, entry);
    if (!kept.includes(folder)) await rm(folder, { recursive: true, force: true });
  }
}

/** The run is done. */
export async function deleteWarmStates(root: string, run: string): Promise<void> {
  await rm(join(root, run), { recursive: true, force: true });
}

/**
 * At the start of a worker nothing trains on its host, and at most one run may still come back for its warm state: the one that
 * trained last. Everything else goes, and that one too when it is too old. Returns the runs whose warm state went.
 * @param lastSign when a run last showed a sign of life on this host, ms since the epoch: a mapped file's own time does not say.
 */
export async function sweepWarmStates(
  root: string,
  lastSign: (run: string) => Promise<number>,
  nowMs: number,
): Promise<string[]> {
  const names = await readdir(root).catch(() => []);
  const runs = await Promise.all(names.map(async (run) => ({ run, seenMs: await lastSign(run) })));
  const newest = Math.max(...runs.map(({ seenMs }) => seenMs));
  const goes = runs.filter(({ seenMs }) => seenMs < newest || nowMs - seenMs > AGE_MS_MAX);
  for (const { run } of goes) await deleteWarmStates(root, run);
  return goes.map(({ run }) => run);
}
