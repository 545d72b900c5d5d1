// What a range's rows are looked at with; made once a range, because some of it has to be loaded first.
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createFilters, type Filter, isFiltered } from '../filters.ts';
import { loadLanguages } from '../language.ts';
import { createMediaReader, type MediaReader, noImages } from '../media/media.ts';
import { createSketcher, type Sketcher } from '../near/sketch.ts';
import { createPresidio, type Presidio } from '../privacy/presidio.ts';
import { createPrivacy, type Privacy } from '../privacy/privacy.ts';
import { createProfile, type RowProfile } from '../profile/profile.ts';
import { MEDIA_FOLDER, type RangeContext, type RangeOptions } from './options.ts';

export interface RangeTools {
  /** null where none is asked for. */
  filter: Filter | null;
  privacy: Privacy;
  /** null = it is not asked. */
  presidio: Presidio | null;
  /** null where near duplicates are not looked for. */
  sketch: Sketcher | null;
  profile: RowProfile;
  readMedia: MediaReader;
}

export async function openRangeTools(
  { rules, pseudonymKey }: RangeOptions,
  folder: string,
  { findImage = noImages, signal = new AbortController().signal }: RangeContext,
): Promise<RangeTools> {
  const languageOf = rules.filters.languages.length === 0 ? null : await loadLanguages();
  return {
    filter: isFiltered(rules.filters) ? createFilters(rules.filters, languageOf) : null,
    privacy: createPrivacy(rules.privacy, pseudonymKey),
    presidio: rules.privacy.presidio === null ? null : createPresidio(rules.privacy, pseudonymKey, signal),
    sketch: rules.nearDuplicates.action === 'off' ? null : createSketcher(),
    profile: createProfile(),
    readMedia: createMediaReader({ find: findImage, keep: (digest, bytes) => keepMedia(folder, digest, bytes) }),
  };
}

async function keepMedia(folder: string, digest: string, bytes: Uint8Array): Promise<void> {
  const path = join(folder, MEDIA_FOLDER, digest);
  if (existsSync(path)) return;
  await mkdir(join(folder, MEDIA_FOLDER), { recursive: true });
  await writeFile(path, bytes);
}
