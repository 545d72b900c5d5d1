// Checkpoints on this host's disk: `<runFolder>/claim-<n>/checkpoint-<step>/`, whole exactly when `manifest.json` says so.
// They may be newer than the store's; the trainer checks sizes and digests before it resumes from one.
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type LocalCheckpoint, LocalCheckpointSchema } from '../contracts/trainer-protocol.ts';

export interface LocalCheckpointFolder {
  claim: number;
  step: number;
  path: string;
  manifest: LocalCheckpoint;
}

const LINEAGE_FILE = 'lineage';

export function claimFolder(runFolder: string, claim: number): string {
  return join(runFolder, `claim-${claim}`);
}

/** Makes the claim's folder and marks what its checkpoints were trained from. */
export async function openClaimFolder(runFolder: string, claim: number, lineage: string): Promise<string> {
  const folder = claimFolder(runFolder, claim);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, LINEAGE_FILE), lineage);
  return folder;
}

/** Sealed checkpoints of this lineage under any claim, newest first. */
export async function listLocalCheckpoints(runFolder: string, lineage: string): Promise<LocalCheckpointFolder[]> {
  const found: LocalCheckpointFolder[] = [];
  for (const entry of await readdir(runFolder).catch(() => [])) {
    const claim = /^claim-(\d+)$/.exec(entry)?.[1];
    if (claim === undefined) continue;
    const folder = join(runFolder, entry);
    const its = await readFile(join(folder, LINEAGE_FILE), 'utf8').catch(() => null);
    if (its === lineage) found.push(...(await sealedIn(folder, Number(claim))));
  }
  return found.sort((a, b) => b.step - a.step || b.claim - a.claim);
}

/** Sealed checkpoints of one claim, newest first. */
export async function sealedIn(folder: string, claim: number): Promise<LocalCheckpointFolder[]> {
  const found: LocalCheckpointFolder[] = [];
  for (const entry of await readdir(folder).catch(() => [])) {
    if (!/^checkpoint-\d+$/.test(entry)) continue;
    const path = join(folder, entry);
    const text = await readFile(join(path, 'manifest.json'), 'utf8').catch(() => null);
    const manifest = text === null ? null : parseManifest(text);
    if (manifest !== null) found.push({ claim, step: manifest.step, path, manifest });
  }
  return found.sort((a, b) => b.step - a.step);
}

/** Moves a checkpoint of an older claim under this one, so that each claim's folder holds all that it resumes from. */
export async function adoptCheckpoint(from: LocalCheckpointFolder, folder: string): Promise<string> {
  const path = join(folder, `checkpoint-${from.step}`);
  if (path !== from.path) {
    await rm(path, { recursive: true, force: true });
    await rename(from.path, path);
  }
  return path;
}

function parseManifest(text: string): LocalCheckpoint | null {
  try {
    return LocalCheckpointSchema.parse(JSON.parse(text));
  } catch {
    return null; // torn: it was never sealed
  }
}
