// The `file` driver: objects as files of one local POSIX file system, for tests and single machines without a server.
// Creation is `link(2)`, which fails when the name is taken; data and folder are synced before an answer is given. Not for NFS or FUSE.
import { randomUUID } from 'node:crypto';
import { link, mkdir, open, readdir, readFile, rename, rm, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import { fill } from './fill.ts';
import type { ObjectStore, PutOutcome } from './object-store.ts';

/** @param root folder of the objects; made when missing. */
export function createFileStore(root: string): ObjectStore {
  const pathOf = (key: string) => join(root, 'objects', ...key.split('/').map(escapeSegment));

  return {
    async putIfAbsent(key, body): Promise<PutOutcome> {
      const path = pathOf(key);
      const temporary = await writeTemporary(root, body);
      try {
        await mkdir(dirname(path), { recursive: true });
        await link(temporary, path);
      } catch (error) {
        if (codeOf(error) !== 'EEXIST') throw storeError(key, error);
        return Buffer.compare(await readFile(path), body) === 0 ? 'mine' : 'exists';
      } finally {
        await unlink(temporary).catch(() => undefined);
      }
      await syncFolder(dirname(path));
      return 'created';
    },

    // No wire lies between: the digest that comes along was taken of these bytes in this memory, and every read verifies it.
    async put(key, body) {
      const path = pathOf(key);
      const temporary = await writeTemporary(root, body);
      try {
        await mkdir(dirname(path), { recursive: true });
        await rename(temporary, path);
        await syncFolder(dirname(path));
      } catch (error) {
        await unlink(temporary).catch(() => undefined);
        throw storeError(key, error);
      }
    },

    async get(key, into) {
      return await readInto(pathOf(key), into).catch((error: unknown) => missingAsNull(key, error));
    },

    async head(key) {
      const found = await stat(pathOf(key)).catch((error: unknown) => missingAsNull(key, error));
      return found === null ? null : { sizeBytes: found.size };
    },

    async list(prefix) {
      const folder = join(root, 'objects', ...prefix.split('/').map(escapeSegment).slice(0, -1));
      const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((error: unknown) =>
        missingAsNull(prefix, error),
      );
      const objects = join(root, 'objects');
      return (entries ?? [])
        .filter((entry) => entry.isFile())
        .map((entry) =>
          join(entry.parentPath, entry.name)
            .slice(objects.length + 1)
            .split('/')
            .map(unescapeSegment)
            .join('/'),
        )
        .filter((key) => key.startsWith(prefix))
        .sort();
    },

    async delete(key) {
      await rm(pathOf(key), { force: true });
    },

    async close() {},
  };
}

async function readInto(path: string, into: Uint8Array | undefined): Promise<Uint8Array> {
  if (into === undefined) return await readFile(path);
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    if (size > into.length) return await file.readFile();
    return into.subarray(0, await fill(file, into.subarray(0, size)));
  } finally {
    await file.close();
  }
}

async function writeTemporary(root: string, body: Uint8Array): Promise<string> {
  const folder = join(root, 'tmp');
  const path = join(folder, randomUUID());
  try {
    await mkdir(folder, { recursive: true });
    const file = await open(path, 'wx');
    try {
      await file.writeFile(body);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw storeError(path, error);
  }
  return path;
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** A trailing mark keeps the object `a` apart from the folder of `a/b`; percent-encoding keeps odd characters and `..` out of paths. */
function escapeSegment(segment: string, index: number, all: string[]): string {
  const safe = encodeURIComponent(segment).replaceAll('.', '%2E').replaceAll('*', '%2A');
  return index === all.length - 1 ? safe : `${safe}@`;
}

function unescapeSegment(segment: string): string {
  return decodeURIComponent(segment.replace(/@$/, ''));
}

function missingAsNull(key: string, error: unknown): null {
  if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return null;
  throw storeError(key, error);
}

function storeError(key: string, error: unknown): AnnealError {
  const code = codeOf(error);
  const remedy = code === 'ENOSPC' ? 'free space on its disk' : 'check its folder and its permissions';
  return new AnnealError(
    'store_unavailable',
    `The file store could not handle ${key}: ${code ?? String(error)}; ${remedy}.`,
    { cause: error },
  );
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
