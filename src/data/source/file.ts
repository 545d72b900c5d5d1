// Sources on the data worker's own disk: files, folders, and examples that the set-up has put there.
import type { Stats } from 'node:fs';
import { type FileHandle, open, readdir, realpath, stat } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AnnealError } from '../../contracts/failure.ts';
import { changedSource } from '../../storage/resumed.ts';
import { badSource, type RawSource } from './raw.ts';

/** Where an address may lead to on this disk. */
export interface FilePlace {
  /** Absolute. */
  path: string;
  uri: string;
  /** Folder that the file must really lie in, links followed; null = anywhere. */
  root: string | null;
  /** What to do where nothing is. */
  remedy: string;
}

export interface FoundFile {
  /** Below the folder that was listed, with `/`. */
  name: string;
  path: string;
  isLink: boolean;
}

export async function openFile({ path, uri, root, remedy }: FilePlace): Promise<RawSource> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    throw fileError(error, path, uri, remedy);
  });
  try {
    await requireInside(path, root, uri);
    const is = await file.stat();
    if (!is.isFile())
      throw badSource(uri, `is ${is.isDirectory() ? 'a folder' : 'no regular file'} (${path}); name a file in it`);
    return { bytes: streamFile(file, versionOf(is), uri), etag: null, sizeBytes: is.size };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function* streamFile(file: FileHandle, version: string, uri: string): AsyncGenerator<Uint8Array> {
  try {
    yield* file.createReadStream({ autoClose: false, highWaterMark: 1024 * 1024 });
    if (versionOf(await file.stat()) !== version) throw changedSource(uri);
  } finally {
    await file.close();
  }
}

function versionOf({ mtimeMs, size }: Stats): string {
  return `${mtimeMs} ${size}`;
}

/** What tells one content of a file from another without reading it. */
export async function versionOnDisk(path: string): Promise<string> {
  return versionOf(await stat(path));
}

/** @throws AnnealError `bad_request` when the place is outside of the root, by its name or through a link. */
export async function requireInside(path: string, root: string | null, uri: string): Promise<void> {
  if (root === null) return;
  const [real, realRoot] = await Promise.all([realpath(path), realpath(root).catch(() => resolve(root))]);
  if (real === realRoot || real.startsWith(realRoot.endsWith(sep) ? realRoot : realRoot + sep)) return;
  throw badSource(uri, `leads out of ${root} (to ${real}); name a file inside it`);
}

/** Where links in a folder may lead: into it, and from a snapshot in the cache of Hugging Face to the files beside all snapshots. */
export function rootOfLinks(folder: string): string {
  const path = resolve(folder);
  return /[/\\]snapshots[/\\][0-9a-f]{40}$/.test(path) ? dirname(dirname(path)) : path;
}

export async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}

export async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}

/** Every file below the folder, sorted by the bytes of its name. Hidden names are passed over; linked folders are not entered. */
export async function listFolder({ path, uri, root, remedy }: FilePlace, filesMax: number): Promise<FoundFile[]> {
  const found: FoundFile[] = [];
  const visit = async (folder: string, prefix: string) => {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.name.startsWith('.')) continue;
      const name = prefix + entry.name;
      if (entry.isDirectory()) await visit(join(folder, entry.name), `${name}/`);
      else if (entry.isFile() || entry.isSymbolicLink())
        found.push({ name, path: join(folder, entry.name), isLink: entry.isSymbolicLink() });
      if (found.length > filesMax) throw new TooManyFiles(uri, filesMax);
    }
  };
  await visit(path, '').catch((error: NodeJS.ErrnoException) => {
    throw error instanceof AnnealError ? error : fileError(error, path, uri, remedy);
  });
  await requireInside(path, root, uri);
  return found.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
}

export class TooManyFiles extends AnnealError {
  constructor(uri: string, filesMax: number) {
    const most = `${filesMax.toLocaleString('en')} files, the most that one source may have`;
    super('bad_request', `Source ${uri} has more than ${most}; join them into fewer, or name a part of them.`);
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
