// The images that a chat shows: one address for each tag in its text, from the turns' parts or the row's `images`.
import { IMAGE_TAG } from '../../contracts/rows.ts';
import { describe, type Fields, isPresent, requireList } from '../fields.ts';
import { RowFault, type Turn } from '../turns.ts';

/** An image that was not read yet: a `data:` URI, a path next to the source, or an address. */
export interface PendingMedia {
  ref: string;
}

/** Images of one row: a model's context has no room for more. */
const ROW_IMAGES_MAX = 64;

/** @throws RowFault `media_count_mismatch` or `media_missing`. */
export function readMedia(row: Fields, turns: Turn[]): PendingMedia[] {
  const inParts = turns.flatMap(({ images }) => images ?? []);
  const hasTags = turns.some(({ images }) => images !== undefined);
  const tags = turns.reduce((sum, { message }) => sum + message.content.split(IMAGE_TAG).length - 1, 0);
  const listed = readImages(row, tags > 0);
  if (inParts.length === 0 && listed.length === 0) {
    if (!hasTags) return [];
    throw new RowFault(
      'media_missing',
      'images',
      'images is missing, and the turns have image parts without an address; add one',
    );
  }
  if (inParts.length > 0 && listed.length > 0)
    throw mismatch(
      `images stand in the turns' parts (${inParts.length}) and in \`images\` (${listed.length}); use one of them`,
    );
  const refs = inParts.length > 0 ? inParts : listed;
  if (tags !== refs.length)
    throw mismatch(
      `the turns name places of images (${IMAGE_TAG}): ${tags}, and the row has images: ${refs.length}; give each image its place`,
    );
  if (refs.length > ROW_IMAGES_MAX)
    throw mismatch(`the row has ${refs.length} images, and ${ROW_IMAGES_MAX} are the most that one may have; cut it`);
  return refs.map((ref) => ({ ref }));
}

/** Addresses, or objects as Hugging Face's image columns have them. */
function readImages(row: Fields, hasTags: boolean): string[] {
  // One image may be there for another reason.
  const names = hasTags ? ['images', 'image'] : ['images'];
  const field = names.find((name) => isPresent(row[name]) && row[name] !== '');
  if (field === undefined) return [];
  const value = row[field];
  const isOne = typeof value === 'string' ? !value.startsWith('[') : !Array.isArray(value);
  if (isOne) return [readImage(value, field)];
  return requireList(value, field, 'empty').map((entry, i) => readImage(entry, `${field}[${i}]`));
}

function readImage(entry: unknown, path: string): string {
  if (typeof entry === 'string') return entry;
  if (typeof entry === 'object' && entry !== null) {
    const { bytes, url, path: file } = entry as Fields;
    if (typeof bytes === 'string') return `data:;base64,${bytes}`;
    if (typeof url === 'string') return url;
    if (typeof file === 'string') return file;
  }
  throw new RowFault(
    'media_missing',
    path,
    `${path} must be the address of an image, found ${describe(entry)}; write its path or URL`,
  );
}

function mismatch(sentence: string): RowFault {
  return new RowFault('media_count_mismatch', '', sentence);
}
