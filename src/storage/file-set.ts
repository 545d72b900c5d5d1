// Folders as sets of content-addressed parts: the one way that files enter and leave the store.
// Every read verifies length and digest; parts that the store already has are not sent again.
import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join, posix, relative, sep } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import type { FileSet } from '../contracts/records.ts';
import { canonicalJson, sha256Hex } from './digest.ts';
import { fill } from './fill.ts';
import { inLanes } from './in-lanes.ts';
import { keys } from './keys.ts';
import type { ObjectStore } from './object-store.ts';
import { returnMemory, takeMemory } from './part-memory.ts';

/** As many as hide the way to the store, at 10 MiB and less each. */
const BLOBS_AT_ONCE = 8;

type StoredFile = FileSet['files'][number];
type NamelessFile = Omit<StoredFile, 'path'> & { path?: string };

/** Up to this size files are sent several at once, bytes: the way to the store takes longer than they do. */
const SMALL_BYTES_MAX = 1024 * 1024;

/** Stores every file of the folder. Idempotent. Memory: one part. */
export async function putFolder(store: ObjectStore, folder: string, signal?: AbortSignal): Promise<FileSet> {
  const files: StoredFile[] = [];
  const put = async (path: string) => {
    files.push({ path: relative(folder, path).split(sep).join(posix.sep), ...(await putFile(store, path, signal)) });
  };
  const paths = await listFiles(folder);
  const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
  const isSmall = (i: number) => (sizes[i] as number) <= SMALL_BYTES_MAX;
  await inLanes(
    paths.filter((_, i) => isSmall(i)),
    BLOBS_AT_ONCE,
    put,
  );
  await inLanes(
    paths.filter((_, i) => !isSmall(i)),
    1,
    put,
  );
  return fileSetOf(files);
}

export function fileSetOf(files: StoredFile[]): FileSet {
  const sorted = files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  return {
    digest: sha256Hex(canonicalJson(sorted.map(({ path, size, sha256 }) => ({ path, size, sha256 })))),
    files: sorted,
  };
}

/** Stores one file as parts. Memory: one part. */
export async function putFile(
  store: ObjectStore,
  path: string,
  signal?: AbortSignal,
): Promise<{ size: number; sha256: string; parts: string[] }> {
  const whole = createHash('sha256');
  const parts: string[] = [];
  let size = 0;
  const file = await open(path, 'r');
  // A file that is empty has an end, too.
  const buffer = takeMemory(Math.max(1, (await file.stat()).size));
  try {
    for (;;) {
      signal?.throwIfAborted();
      const length = await fill(file, buffer);
      if (length === 0) break;
      const part = buffer.subarray(0, length);
      whole.update(part);
      // Up to the end of the first part, it is the whole.
      const sha256 = size === 0 ? whole.copy().digest('hex') : sha256Hex(part);
      await putNamed(store, part, sha256);
      parts.push(sha256);
      size += length;
    }
  } finally {
    returnMemory(buffer);
    await file.close();
  }
  return { size, sha256: whole.digest('hex'), parts };
}

/** Stores bytes of at most `PART_BYTES_MAX` under their digest. */
export async function putBlob(store: ObjectStore, bytes: Uint8Array): Promise<string> {
  const sha256 = sha256Hex(bytes);
  await putNamed(store, bytes, sha256);
  return sha256;
}

async function putNamed(store: ObjectStore, bytes: Uint8Array, sha256: string): Promise<void> {
  const key = keys.blob(sha256);
  const there = await store.head(key);
  if (there?.sizeBytes !== bytes.length) await store.put(key, bytes, sha256);
}

/** Writes the set into the folder. Files appear whole or not at all; those that are there with the right digest are kept. */
export async function getFolder(store: ObjectStore, set: FileSet, folder: string, signal?: AbortSignal): Promise<void> {
  for (const file of set.files) await getFile(store, file, join(folder, file.path), signal);
}

/** Writes blobs into the folder, named by their digests, in the same way. Each is read whole: they are no larger than a part. */
export async function getBlobs(
  store: ObjectStore,
  digests: Iterable<string>,
  folder: string,
  signal?: AbortSignal,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await inLanes(digests, BLOBS_AT_ONCE, async (sha256) => {
    signal?.throwIfAborted();
    const path = join(folder, sha256);
    if (await hasDigest(path, { sha256 })) return;
    const temporary = `${path}.part-${process.pid}`;
    await writeFile(temporary, await getBlob(store, sha256));
    await rename(temporary, path);
  });
}

export async function getFile(
  store: ObjectStore,
  file: NamelessFile,
  path: string,
  signal?: AbortSignal,
): Promise<void> {
  if (await hasDigest(path, file)) return;
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.part-${process.pid}`;
  const out = await open(temporary, 'w');
  const memory = takeMemory(file.size);
  const whole = createHash('sha256');
  let size = 0;
  try {
    for (const part of file.parts) {
      signal?.throwIfAborted();
      const bytes = await getUnverified(store, part, memory);
      whole.update(bytes);
      size += bytes.length;
      await out.writeFile(bytes);
    }
    await out.sync();
  } finally {
    returnMemory(memory);
    await out.close();
  }
  if (size !== file.size || whole.digest('hex') !== file.sha256) throw await corruptFile(store, { path, ...file });
  await rename(temporary, path);
}

/** The error of a file with other bytes than its digest says: names the part that is corrupt, if one is. */
export async function corruptFile(store: ObjectStore, file: StoredFile): Promise<unknown> {
  try {
    for (const part of file.parts) await getBlob(store, part);
  } catch (error) {
    return error;
  }
  return new AnnealError(
    'checkpoint_corrupt',
    `File ${file.path} does not have the digest ${file.sha256} that its manifest names; restore it from a replica or use an older one.`,
  );
}

/** A small file of the set as a whole; null when the set has none of that name. */
export async function readStoredFile(store: ObjectStore, set: FileSet, path: string): Promise<Buffer | null> {
  const file = set.files.find((one) => one.path === path);
  if (file === undefined) return null;
  const parts: Uint8Array[] = [];
  for (const part of file.parts) parts.push(await getBlob(store, part));
  return Buffer.concat(parts);
}

/**
 * @param into is used where there is room.
 * @throws AnnealError `checkpoint_corrupt` when the part is missing or has another digest.
 */
export async function getBlob(store: ObjectStore, sha256: string, into?: Uint8Array): Promise<Uint8Array> {
  const bytes = await getUnverified(store, sha256, into);
  if (sha256Hex(bytes) !== sha256)
    throw new AnnealError(
      'checkpoint_corrupt',
      `Blob ${sha256} has other bytes than its name says; restore it from a replica or use an older version.`,
    );
  return bytes;
}

/** For those who verify the bytes themselves. */
export async function getUnverified(store: ObjectStore, sha256: string, into?: Uint8Array): Promise<Uint8Array> {
  const bytes = await store.get(keys.blob(sha256), into);
  if (bytes !== null) return bytes;
  throw new AnnealError(
    'checkpoint_corrupt',
    `Blob ${sha256} is missing from the store; restore it from a replica or use an older version.`,
  );
}

async function hasDigest(path: string, file: { size?: number; sha256: string }): Promise<boolean> {
  const handle = await open(path, 'r').catch(() => null);
  if (handle === null) return false;
  try {
    if (file.size !== undefined && (await handle.stat()).size !== file.size) return false;
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafeSlow(1024 * 1024);
    for (let length = await fill(handle, buffer); length > 0; length = await fill(handle, buffer))
      hash.update(buffer.subarray(0, length));
    return hash.digest('hex') === file.sha256;
  } finally {
    await handle.close();
  }
}

async function listFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((e) => e.isFile())
    .map((e) => join(e.parentPath, e.name))
    .sort();
}
