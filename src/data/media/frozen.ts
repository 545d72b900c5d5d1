// Gives the images of a frozen source as they were when it was frozen.
import { AnnealError } from '../../contracts/failure.ts';
import type { FrozenImage, FrozenSource } from '../../contracts/records.ts';
import { getBlob } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { readImageTable } from './freeze.ts';

/** The tables of the rows that lie in these parts. */
export function imageTables({ images = [] }: FrozenSource, firstPart: number, endPart: number): string[] {
  return images.filter(({ part }) => part >= firstPart && part < endPart).map(({ table }) => table);
}

/** Memory: the names of the images in the tables, once the first is asked for. */
export function createFrozenLoader(store: ObjectStore, tables: string[]): (ref: string) => Promise<Uint8Array> {
  let known: Promise<Map<string, FrozenImage>> | null = null;
  return async (ref) => {
    known ??= readTables(store, tables);
    const image = (await known).get(ref);
    if (image === undefined)
      throw new AnnealError('bad_request', 'it was not read when its source was; start the run anew');
    if ('digest' in image) return await getBlob(store, image.digest);
    throw new AnnealError(image.code === 'media_missing' ? 'bad_request' : 'data_rejected', image.message);
  };
}

async function readTables(store: ObjectStore, tables: string[]): Promise<Map<string, FrozenImage>> {
  const known = new Map<string, FrozenImage>();
  for (const table of tables) for (const image of await readImageTable(store, table)) known.set(image.ref, image);
  return known;
}
