// Checkpoints on this host's disk: `<runFolder>/claim-<n>/checkpoint-<step>/`, whole exactly when `manifest.json` says so.
// They may be newer than the store's; the trainer checks sizes and digests before it resumes from one.
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type LocalCheckpoint, LocalCheckpointSchema } from '../contracts/trainer-protocol.ts';

export interface LocalCheckpointFolder {
  claim: number;
  lineage: string;
  step: number;
  path: string;
  /** All of its files are here: ranks of other hosts keep their parts there. */
  isWhole: boolean;
}

const LINEAGE_FILE = 'lineage';

function claimFolder(runFolder: string, claim: number): string {
  return join(runFolder, `claim-${claim}`);
}

export function checkpointFolder(claimFolder: string, step: number): string {
  return join(claimFolder, `checkpoint-${step}`);
}

/** Makes the folder of a new claim and marks what its checkpoints are trained from. Whatever lies there is of another life of the store. */
export async function openClaimFolder(runFolder: string, claim: number, lineage: string): Promise<string> {
  const folder = claimFolder(runFolder, claim);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, LINEAGE_FILE), lineage);
  return folder;
}

/** Sealed checkpoints under any claim. */
export async function listLocalCheckpoints(runFolder: string): Promise<LocalCheckpointFolder[]> {
  const found: LocalCheckpointFolder[] = [];
  for (const entry of await readdir(runFolder).catch(() => [])) {
    const claim = /^claim-(\d+)$/.exec(entry)?.[1];
    if (claim === undefined) continue;
    const folder = join(runFolder, entry);
    const lineage = await readFile(join(folder, LINEAGE_FILE), 'utf8').catch(() => null);
    if (lineage !== null)
      found.push(...(await sealedIn(folder)).map((its) => ({ ...its, claim: Number(claim), lineage })));
  }
  return found;
}

type Sealed = Pick<LocalCheckpointFolder, 'step' | 'path' | 'isWhole'>;

async function sealedIn(folder: string): Promise<Sealed[]> {
  const found: Sealed[] = [];
  for (const entry of await readdir(folder).catch(() => [])) {
    if (!/^checkpoint-\d+$/.test(entry)) continue;
    const path = join(folder, entry);
    const text = await readFile(join(path, 'manifest.json'), 'utf8').catch(() => null);
    const manifest = text === null ? null : parse(text);
    if (manifest === null) continue;
    const here = await readdir(path).catch((): string[] => []);
    const isWhole = Object.keys(manifest.files).every((name) => here.includes(name));
    found.push({ step: manifest.step, path, isWhole });
  }
  return found;
}

/** Moves a checkpoint of an older claim under this one, so that each claim's folder holds all that it resumes from. */
export async function adoptCheckpoint(from: { step: number; path: string }, folder: string): Promise<string> {
  const path = checkpointFolder(folder, from.step);
  if (path !== from.path) {
    await rm(path, { recursive: true, force: true });
    await rename(from.path, path);
  }
  return path;
}

/** Once a claim has a checkpoint in the store, nobody needs what older ones left here. */
export async function deleteOtherClaims(runFolder: string, ...claims: number[]): Promise<void> {
  for (const entry of await readdir(runFolder).catch(() => [])) {
    const number = /^claim-(\d+)$/.exec(entry)?.[1];
    if (number !== undefined && !claims.includes(Number(number))) {
      await rm(join(runFolder, entry), { recursive: true, force: true });
    }
  }
}

/** Makes room: deletes all but the newest sealed checkpoint of a claim. Returns how many went. */
export async function deleteAllButNewest(claimFolder: string): Promise<number> {
  const older = (await sealedIn(claimFolder)).sort((a, b) => b.step - a.step).slice(1);
  for (const { path } of older) await rm(path, { recursive: true, force: true });
  return older.length;
}

function parse(manifest: string): LocalCheckpoint | null {
  try {
    return LocalCheckpointSchema.parse(JSON.parse(manifest));
  } catch {
    return null; // torn: it was never sealed
  }
}
