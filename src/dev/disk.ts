// The free space on the disk that holds a folder, and how much of it a stack needs.
import { existsSync, statfsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

const GIB = 1024 ** 3;

/** Room for checkpoints, logs and the database of some runs; a disk that fills up half-way stops them. */
export const DISK_BYTES_MIN = 2 * GIB;

/** Bytes that may still be written, also where the folder is not there yet; infinite where the system does not say. */
export function freeDiskBytes(folder: string): number {
  const { blocks, bavail, bsize } = statfsSync(nearestExisting(resolve(folder)));
  return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize;
}

function nearestExisting(folder: string): string {
  return existsSync(folder) ? folder : nearestExisting(dirname(folder));
}

export function formatGib(bytes: number): string {
  return Number.isFinite(bytes) ? `${(bytes / GIB).toFixed(1)} GB` : 'unknown';
}
