// What was decided from the data, in sentences.
import { basename } from 'node:path';
import type { CleanedPiece } from '../../contracts/ranges.ts';
import type { Snapshot } from '../../contracts/records.ts';
import type { Spec } from '../../contracts/spec.ts';
import type { CountedMove } from '../resolve/placing.ts';

/** Rows of a dataset's quarantine; all are counted. Nobody reads more. */
export const QUARANTINE_ROWS_MAX = 100_000;

export function notesOf(spec: Spec, snapshot: Snapshot, pieces: CleanedPiece[], moves: CountedMove[]): string[] {
  return [...csvNotes(snapshot, pieces), ...moveNotes(moves), ...groupNotes(spec, pieces), ...quarantineNotes(pieces)];
}

function csvNotes({ sources }: Snapshot, pieces: CleanedPiece[]): string[] {
  return sources.flatMap(({ uri }, i) => {
    const header = pieces.find(({ source }) => source === i)?.counts.header;
    if (!header) return [];
    return [`${basename(uri)}: CSV with the delimiter ${JSON.stringify(header.delimiter)}.`];
  });
}

function moveNotes(moves: CountedMove[]): string[] {
  return moves.map(
    ({ from, to, rows }) =>
      `The split ${to} would have been empty; one group (${rows} rows) of ${from} was moved to it.`,
  );
}

function groupNotes({ data }: Spec, pieces: CleanedPiece[]): string[] {
  const without = pieces.reduce((sum, { counts }) => sum + counts.withoutGroup, 0);
  if (without === 0) return [];
  return [`${without} rows have no field \`${data.groupBy}\`; their first user message groups them.`];
}

function quarantineNotes(pieces: CleanedPiece[]): string[] {
  const dropped = pieces.flatMap(({ counts }) => Object.values(counts.dropped)).reduce((sum, n) => sum + n, 0);
  if (dropped <= QUARANTINE_ROWS_MAX) return [];
  return [`The quarantine holds the first ${QUARANTINE_ROWS_MAX} of ${dropped} dropped rows.`];
}
