// The parts of one claim's checkpoints, and whether a checkpoint's files are what its trainer sealed.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import type { FileSet } from '../contracts/records.ts';
import { type LocalCheckpoint, LocalCheckpointSchema } from '../contracts/trainer-protocol.ts';
import { keys } from './keys.ts';
import type { ObjectStore } from './object-store.ts';

const MANIFEST = 'manifest.json';

/** The store with the blobs of one claim's checkpoints in place of the shared ones. */
export function partsOf(store: ObjectStore, run: string, claim: number): ObjectStore {
  const at = (key: string) =>
    key.startsWith('blobs/') ? keys.part(run, claim, key.slice(key.lastIndexOf('/') + 1)) : key;
  return {
    ...store,
    put: (key, body, sha256) => store.put(at(key), body, sha256),
    get: (key, into) => store.get(at(key), into),
    head: (key) => store.head(at(key)),
  };
}

/** The digests that a folder's trainer took. @throws AnnealError `checkpoint_corrupt`. */
export async function readSealed(folder: string): Promise<LocalCheckpoint['files']> {
  const text = await readFile(join(folder, MANIFEST), 'utf8');
  try {
    return LocalCheckpointSchema.parse(JSON.parse(text)).files;
  } catch {
    throw corrupt(folder, 'its manifest is not readable');
  }
}

/** What was read must be what the trainer sealed: the disk may have lost a bit since. */
export function requireAsSealed(folder: string, sealed: LocalCheckpoint['files'], read: FileSet['files']): void {
  const digests = new Map(read.map(({ path, sha256 }) => [path, sha256]));
  for (const [path, { sha256 }] of Object.entries(sealed))
    if (digests.get(path) !== sha256) throw corrupt(folder, `${path} is not what its manifest says`);
}

function corrupt(folder: string, what: string): AnnealError {
  return new AnnealError(
    'checkpoint_corrupt',
    `Checkpoint ${folder} was not committed: ${what}; look at this host's disk.`,
  );
}
