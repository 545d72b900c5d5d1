// Counts what crosses between what is held out and what is trained on.
import { GROUP_AT, INDEX_BYTES } from '../range/index-file.ts';
import { FATE, isHeldOut } from './fates.ts';
import { type RowIndex, readBlocks } from './indexes.ts';
import { createKeyTable } from './key-table.ts';
import { GROUP_BYTES } from './pins.ts';

/** More groups that are held out are not counted: the table would take 100 MB. */
const GROUPS_MAX = 4_000_000;

const HELD_OUT = 0;
const SHARED = 1;

/** Groups with rows on both sides, which only sources that name their own splits can bring; null = too many to count. */
export async function countSharedGroups(
  indexes: RowIndex[],
  fates: Uint8Array,
  signal: AbortSignal,
): Promise<number | null> {
  const groups = createKeyTable(GROUP_BYTES, 0);
  for await (const { first, rows, bytes } of readBlocks(indexes, signal)) {
    for (let row = 0; row < rows; row++)
      if (isHeldOut(fates[first + row] as number)) groups.add(bytes, row * INDEX_BYTES + GROUP_AT, HELD_OUT);
    if (groups.size > GROUPS_MAX) return null;
  }
  let shared = 0;
  for await (const { first, rows, bytes } of readBlocks(indexes, signal)) {
    for (let row = 0; row < rows; row++) {
      const at = row * INDEX_BYTES + GROUP_AT;
      if (fates[first + row] !== FATE.train || groups.get(bytes, at) !== HELD_OUT) continue;
      groups.set(bytes, at, SHARED);
      shared++;
    }
  }
  return shared;
}
