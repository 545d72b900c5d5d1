// Sources on the data worker's own disk: files, and examples that the set-up has put there.
import { type FileHandle, open } from 'node:fs/promises';
import { resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AnnealError } from '../../contracts/failure.ts';
import { badSource, type RawSource } from './raw.ts';

export async function openFile(path: string, uri: string, remedy: string): Promise<RawSource> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    throw fileError(error, path, uri, remedy);
  });
  const stat = await file.stat();
  if (!stat.isFile()) {
    await file.close();
    const what = stat.isDirectory() ? 'a folder' : 'no regular file';
    throw badSource(uri, `is ${what} (${path}); name a file in it`);
  }
  return { bytes: streamFile(file, stat.mtimeMs, uri), etag: null, sizeBytes: stat.size };
}

async function* streamFile(file: FileHandle, mtimeMs: number, uri: string): AsyncGenerator<Uint8Array> {
  try {
    yield* file.createReadStream({ autoClose: false, highWaterMark: 1024 * 1024 });
    if ((await file.stat()).mtimeMs !== mtimeMs)
      throw new AnnealError(
        'source_unavailable',
        `Source ${uri} changed while it was read; try again when its writer is done.`,
      );
  } finally {
    await file.close();
  }
}

function fileError(error: NodeJS.ErrnoException, path: string, uri: string, remedy: string): Error {
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return badSource(uri, `is not there (${path}); ${remedy}`, error);
    case 'EACCES':
    case 'EPERM':
      return badSource(
        uri,
        `may not be read (${path}, ${error.code}); give the data worker's user the right to`,
        error,
      );
    default:
      return new AnnealError(
        'source_unavailable',
        `Source ${uri} could not be opened (${path}, ${error.code ?? error.message}); look at the disk.`,
        { cause: error },
      );
  }
}

export function fileOf(address: string, uri: string): string {
  try {
    return fileURLToPath(address);
  } catch (error) {
    throw badSource(uri, 'is no valid file address; write file:// and the absolute path', error);
  }
}

export function exampleOf(address: string, folder: string): string {
  const root = resolve(folder);
  const path = resolve(root, address.slice('example:'.length));
  if (!path.startsWith(root + sep))
    throw badSource(address, 'leaves the folder of the examples; name a file inside it');
  return path;
}
