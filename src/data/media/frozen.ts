// Finds the images of a frozen source as they were when it was frozen.
import { AnnealError } from '../../contracts/failure.ts';
import type { FrozenImage, FrozenSource } from '../../contracts/records.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { readImageTable } from './freeze.ts';
import type { FindImage } from './media.ts';

/** The tables of the rows that lie in these parts. */
export function imageTables({ images = [] }: FrozenSource, firstPart: number, endPart: number): string[] {
  return images.filter(({ part }) => part >= firstPart && part < endPart).map(({ table }) => table);
}

/** Memory: the names of the images in the tables, once the first is asked for. */
export function createImageFinder(store: ObjectStore, tables: string[]): FindImage {
  let known: Promise<Map<string, FrozenImage>> | null = null;
  return async (ref) => {
    known ??= readTables(store, tables);
    const found = (await known).get(ref);
    if (found === undefined)
      throw new AnnealError('bad_request', 'it was not read when its source was; start the run anew');
    if ('image' in found) return found.image;
    throw new AnnealError(found.code === 'media_missing' ? 'bad_request' : 'data_rejected', found.message);
  };
}

async function readTables(store: ObjectStore, tables: string[]): Promise<Map<string, FrozenImage>> {
  const known = new Map<string, FrozenImage>();
  for (const table of tables) for (const image of await readImageTable(store, table)) known.set(image.ref, image);
  return known;
}
