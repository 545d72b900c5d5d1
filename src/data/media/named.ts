// Which addresses of images the rows of a source name, found by the code that maps the rows when they are cleaned.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FrozenSource } from '../../contracts/records.ts';
import { createRowMapper, type Mapping, type RowMapper } from '../mapping.ts';
import { createParser, slicesOf } from '../readers.ts';
import { isBroken, type ReadRow } from '../rows-read.ts';
import { RowFault } from '../turns.ts';

/** What rows with images hold, as JSON may write it: the names of their fields, kinds of parts and tags. */
const SIGNS = ['image', '\\u006'];
/** Of the longest, at most. */
export const SIGN_BYTES = 8;

/** Whether the rows could name images at all. `before` = the last `SIGN_BYTES` before these, in which a sign could begin. */
export function mayNameImages(bytes: Buffer, before: Buffer, { columns }: Pick<Mapping, 'columns'>): boolean {
  if (columns?.images !== undefined) return true;
  const seam = Buffer.concat([before, bytes.subarray(0, SIGN_BYTES)]);
  return SIGNS.some((sign) => bytes.includes(sign) || seam.includes(sign));
}

export interface NamedImages {
  /** Of the row. */
  offset: number;
  named: string[];
}

/** Rows that name images by addresses, in their order. `data:` addresses hold their images themselves. */
export async function* namedImages(
  bytes: AsyncIterable<Uint8Array>,
  { uri, format }: Pick<FrozenSource, 'uri' | 'format'>,
  mapping: Mapping,
): AsyncGenerator<NamedImages> {
  const parser = createParser(format, { name: uri }, { line: 1, offset: 0 });
  const map = createRowMapper(mapping);
  let found: NamedImages[] = [];
  const take = (row: ReadRow) => {
    const named = imagesOf(row, map);
    if (named.length > 0) found.push({ offset: row.offset, named });
  };
  for await (const slice of slicesOf(bytes)) {
    parser.push(slice, take);
    yield* found;
    found = [];
    await nextTurn();
  }
  parser.end(take);
  yield* found;
}

/** Rows that break a rule have none: they are dropped when they are cleaned. */
function imagesOf(row: ReadRow, map: RowMapper): string[] {
  if (isBroken(row)) return [];
  try {
    const { content } = map(row.value);
    const media = 'media' in content ? (content.media ?? []) : [];
    return media.flatMap((image) => ('ref' in image && !image.ref.startsWith('data:') ? [image.ref] : []));
  } catch (error) {
    // V8 parses deeper nesting than it can walk through.
    if (error instanceof RowFault || error instanceof RangeError) return [];
    throw error;
  }
}
