// The profile of all ranges, read from what they left in the store.
import { type Profile, ProfileSchema } from '../../contracts/profile.ts';
import type { CleanedPiece } from '../../contracts/ranges.ts';
import { readStoredFile } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { RANGE_FILES } from '../range/options.ts';
import { emptyProfile, mergeProfiles } from './profile.ts';

/** @param pieces of all ranges, in order. */
export async function loadProfile(store: ObjectStore, pieces: CleanedPiece[]): Promise<Profile> {
  let whole = emptyProfile();
  for (const { files } of pieces) {
    const bytes = await readStoredFile(store, files, RANGE_FILES.profile);
    if (bytes !== null) whole = mergeProfiles([whole, ProfileSchema.parse(JSON.parse(bytes.toString('utf8')))]);
  }
  return whole;
}
