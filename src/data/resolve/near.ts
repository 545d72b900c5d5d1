// Takes out rows that are nearly the same as another: the held-out one stays before the one that is trained on, then the first.
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { CleanedPiece } from '../../contracts/ranges.ts';
import type { Spec } from '../../contracts/spec.ts';
import { getFile } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { clusterNear, NO_PART } from '../near/cluster.ts';
import { RANGE_FILES } from '../range/options.ts';
import { FATE, isHeldOut, isKept } from './fates.ts';
import { fileOf } from './indexes.ts';

export interface NearOptions {
  rules: Spec['data']['nearDuplicates'];
  folder: string;
  signal: AbortSignal;
}

/**
 * With `drop` the rows' fates change. Gives by row whether it is nearly the same as the row that stands for it, or null where nothing
 * is looked for.
 */
export async function markNearDuplicates(
  store: ObjectStore,
  pieces: CleanedPiece[],
  fates: Uint8Array,
  { rules, folder, signal }: NearOptions,
): Promise<Uint32Array | null> {
  if (rules.action === 'off' || fates.length === 0) return null;
  const bands = await gatherBands(store, pieces, folder, signal);
  const ranks = fates.map((fate) => (isHeldOut(fate) ? 0 : isKept(fate) ? 1 : NO_PART));
  const leaders = await clusterNear(bands, { threshold: rules.threshold, ranks, signal });
  if (rules.action === 'drop')
    for (let row = 0; row < leaders.length; row++) {
      const leader = leaders[row] as number;
      if (leader !== row && isKept(fates[row] as number))
        fates[row] = crosses(fates, row, leader) ? FATE.contaminated : FATE.near;
    }
  return leaders;
}

/** Whether a training row is nearly the same as one that is held out. A leader is never dropped for being near. */
export function crosses(fates: Uint8Array, row: number, leader: number): boolean {
  return fates[row] === FATE.train && isHeldOut(fates[leader] as number);
}

/** The sketches of all rows in one file. */
async function gatherBands(store: ObjectStore, pieces: CleanedPiece[], folder: string, signal: AbortSignal) {
  const all = join(folder, 'bands.bin');
  await mkdir(join(folder, 'bands'), { recursive: true });
  await pipeline(async function* () {
    for (const [i, { files }] of pieces.entries()) {
      const path = join(folder, 'bands', String(i));
      await getFile(store, fileOf(files, RANGE_FILES.bands), path, signal);
      yield* createReadStream(path, { highWaterMark: 1024 * 1024 });
    }
  }, createWriteStream(all));
  return all;
}
