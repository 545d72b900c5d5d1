// A source as a file on this disk, for readers that jump about in it. Whoever asked for it removes it.
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { AnnealError } from '../../contracts/failure.ts';
import { limit } from './content.ts';

/** Bytes: what a worker's disk has to spare. */
const COPY_BYTES_MAX = 32 * 1024 ** 3;

/** Copies that a worker's death has left are removed by the next copy, ms: an attempt of the stage ends sooner. */
const LEFT_MS = 3 * 24 * 3_600_000;
const PREFIX = 'source-';

/** It would have to be copied whole, and is larger than whoever reads it wants to copy. */
export class TooLargeToCopy extends AnnealError {
  readonly uri: string;

  constructor(uri: string) {
    super('data_rejected', `Source ${uri} is too large to be copied to this disk.`);
    this.uri = uri;
  }
}

/** @throws TooLargeToCopy when more comes. */
export async function* atMost(
  bytes: AsyncIterable<Uint8Array>,
  bytesMax: number,
  uri: string,
): AsyncGenerator<Uint8Array> {
  let sizeBytes = 0;
  for await (const piece of bytes) {
    sizeBytes += piece.length;
    if (sizeBytes > bytesMax) throw new TooLargeToCopy(uri);
    yield piece;
  }
}

export interface TemporaryCopy {
  path: string;
  remove(): Promise<void>;
}

export async function copyToDisk(
  bytes: AsyncIterable<Uint8Array>,
  uri: string,
  folder: string = tmpdir(),
  bytesMax: number = COPY_BYTES_MAX,
  signal?: AbortSignal,
): Promise<TemporaryCopy> {
  await mkdir(folder, { recursive: true });
  if (folder !== tmpdir()) await removeLeft(folder);
  const own = await mkdtemp(join(folder, PREFIX));
  const path = join(own, 'file');
  const remove = () => rm(own, { recursive: true, force: true });
  try {
    await pipeline(limit(bytes, uri, Math.min(bytesMax, COPY_BYTES_MAX), signal), createWriteStream(path));
  } catch (error) {
    await remove();
    throw error;
  }
  return { path, remove };
}

async function removeLeft(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(PREFIX)) continue;
    const { mtimeMs } = await stat(join(folder, name)).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
    if (mtimeMs < Date.now() - LEFT_MS) await rm(join(folder, name), { recursive: true, force: true });
  }
}
