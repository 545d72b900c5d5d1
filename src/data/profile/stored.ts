// The profile of all ranges, read from what they left in the store.
import { type Profile, ProfileSchema } from '../../contracts/profile.ts';
import type { CleanedPiece } from '../../contracts/ranges.ts';
import { readStoredFile } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { type LanguageOf, loadLanguages } from '../language.ts';
import { RANGE_FILES } from '../range/options.ts';
import { emptyProfile, mergeProfiles } from './profile.ts';
import { addCounts } from './row-sample.ts';

/** @param pieces of all ranges, in order. */
export async function loadProfile(store: ObjectStore, pieces: CleanedPiece[]): Promise<Profile> {
  let whole = emptyProfile();
  for (const { files } of pieces) {
    const bytes = await readStoredFile(store, files, RANGE_FILES.profile);
    if (bytes !== null) whole = mergeProfiles([whole, ProfileSchema.parse(JSON.parse(bytes.toString('utf8')))]);
  }
  if (whole.sample.levels.every(({ starts }) => starts.length === 0)) return whole;
  return tellLanguages(whole, await loadLanguages());
}

/** Here and not in the ranges: what a language is told by is large, and a range's sample is as large as that of the whole. */
export function tellLanguages(profile: Profile, languageOf: LanguageOf): Profile {
  const levels = profile.sample.levels.map((level) => {
    const found = level.starts.map((start) => languageOf(start) ?? 'und');
    return {
      ...level,
      starts: [],
      languages: found.reduce((sum, one) => addCounts(sum, { [one]: 1 }), level.languages),
    };
  });
  return { ...profile, sample: { ...profile.sample, levels } };
}
