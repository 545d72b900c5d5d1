// Which addresses of images the rows of a source name, found by the code that maps the rows when they are cleaned.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FrozenSource } from '../../contracts/records.ts';
import type { CsvOptions } from '../csv.ts';
import { createRowMapper, type Mapping, type RowMapper } from '../mapping.ts';
import { rereadRow } from '../mend-bytes.ts';
import { createParser, slicesOf } from '../readers.ts';
import { type GoodRow, isBroken, type ReadRow } from '../rows-read.ts';
import { RowFault } from '../turns.ts';

/** What rows with images hold: the name of a field or a kind of part in quotes, which JSON may write in escapes. */
const SIGNS = ['"image', '\\u006', '\\u0022'];
/** Of the longest, at most. */
export const SIGN_BYTES = 8;

const hasSign = (bytes: Buffer) => SIGNS.some((sign) => bytes.includes(sign));

/**
 * Whether bytes of a source could name images, so that its rows must be looked at. `before` = the last `SIGN_BYTES` before these, in
 * which a sign could begin. The names of a CSV's columns need no quotes.
 */
export function mayNameImages(
  bytes: Buffer,
  before: Buffer,
  format: FrozenSource['format'],
  { columns }: Pick<Mapping, 'columns'>,
): boolean {
  if (columns?.images !== undefined || (format === 'csv' && before.length === 0 && bytes.includes('image')))
    return true;
  return hasSign(bytes) || hasSign(Buffer.concat([before, bytes.subarray(0, SIGN_BYTES)]));
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
  signal?: AbortSignal,
): AsyncGenerator<NamedImages> {
  const csv: CsvOptions = { name: uri };
  const parser = createParser(
    format,
    {
      ...csv,
      onHeader: (header) => {
        csv.header = header;
      },
    },
    { line: 1, offset: 0 },
  );
  const isMended = mapping.rules?.invalid_utf8 === 'fix';
  const map = createRowMapper(mapping);
  let found: NamedImages[] = [];
  const isEvery = () =>
    mapping.columns?.images !== undefined || csv.header?.columns.some((name) => /image/i.test(name));
  const take = (read: ReadRow) => {
    const row = isBroken(read) && isMended ? rereadRow(read, format, csv) : read;
    if (row === null || isBroken(row) || !(isEvery() || hasSign(row.bytes))) return;
    const named = imagesOf(row, map);
    if (named.length > 0) found.push({ offset: read.offset, named });
  };
  for await (const slice of slicesOf(bytes)) {
    signal?.throwIfAborted();
    parser.push(slice, take);
    yield* found;
    found = [];
    await nextTurn();
  }
  parser.end(take);
  yield* found;
}

/** Rows that break a rule have none: they are dropped when they are cleaned. */
function imagesOf(row: GoodRow, map: RowMapper): string[] {
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
