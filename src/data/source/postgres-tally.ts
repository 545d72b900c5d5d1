// Which rows of a followed query are new, and up to where it was read: rows near the watermark are known by digest.
import { createHash } from 'node:crypto';
import type { AnnealError } from '../../contracts/failure.ts';
import type { Mark } from '../../contracts/records.ts';
import { badSource } from './raw.ts';

/** Rows near the watermark that are remembered, so that none is taken twice: a digest of 16 digits each, five megabytes. */
const RECENT_ROWS_MAX = 250_000;

export interface Watermark {
  column: string;
  key: string;
  overlap: number;
  isNewOnly: boolean;
  after: Mark['watermark'];
}

/** Row as JSON; with a watermark also its column and key as text, the column as a number, and whether it lies behind the earlier mark. */
export type Fetched = [json: string, column?: string | null, key?: string | null, number?: number, isBehind?: boolean];

export interface Tally {
  /** Whether the row is to be handed on. */
  take(row: Fetched): boolean;
  mark(): Mark['watermark'];
  newRows(): number;
}

/** Rows near the watermark are known by digest, so that looking at them again takes none twice. */
export function createTally(watermark: Watermark | null, uri: string): Tally {
  const { after = null, overlap = 0, isNewOnly = false } = watermark ?? {};
  const known = new Set(after?.recent);
  let column = after?.column ?? null;
  let recent: { number: number; digest: string }[] = [];
  let newRows = 0;
  return {
    take([, value, key, number = 0, isBehind]) {
      if (watermark === null) return true;
      if (value == null || key == null) throw withoutMark(uri, watermark);
      const digest = createHash('sha256').update(`${value}\0${key}`).digest('hex').slice(0, 16);
      column = value;
      recent.push({ number, digest });
      if (recent.length > 2 * RECENT_ROWS_MAX) recent = nearest(recent, number - overlap, uri);
      const isNew = isBehind === true && !known.has(digest);
      if (isNew) newRows++;
      return isNew || !isNewOnly;
    },
    mark: () => {
      if (column === null) return null;
      const near = nearest(recent, (recent.at(-1)?.number ?? 0) - overlap, uri).map(({ digest }) => digest);
      // Nothing was read: what was near the mark is near it still.
      return { column, recent: near.length === 0 ? [...known] : near };
    },
    newRows: () => newRows,
  };
}

function nearest<T extends { number: number }>(rows: T[], from: number, uri: string): T[] {
  const near = rows.slice(rows.findIndex(({ number }) => number >= from));
  if (near.length > RECENT_ROWS_MAX)
    throw badSource(uri, `has more than ${RECENT_ROWS_MAX} rows within \`follow.overlap\` of each other; lower it`);
  return near;
}

function withoutMark(uri: string, { column, key }: Watermark): AnnealError {
  return badSource(
    uri,
    `has rows whose ${column} or ${key} is null; name another watermark, or leave them out by \`query\``,
  );
}
