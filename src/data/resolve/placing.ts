// Puts every row that stays into a split: as its source says, as an earlier dataset did, else by a hash of its group. A split that would
// be empty gets a group of another.
import { SPLITS, type Split } from '../../contracts/rows.ts';
import { GROUP_AT, INDEX_BYTES, readGroup } from '../range/index-file.ts';
import { createEdges, decideMoves, fractionOf, type Move, noteGroup, type Shares, splitAt } from '../split.ts';
import { isKept } from './fates.ts';
import { type RowIndex, readBlocks } from './indexes.ts';
import type { KeyTable } from './key-table.ts';

export interface PlacingOptions {
  shares: Shares;
  /** By source: rows of `test` and `validation` go exactly there, those of `train` never into a split that a source gives. */
  given: (Split | null)[];
  pins: KeyTable;
  signal: AbortSignal;
}

export type CountedMove = Move & { rows: number };

/** Writes the splits over the fates of the rows that are in one so far. Gives the groups that were moved. */
export async function placeRows(
  indexes: RowIndex[],
  fates: Uint8Array,
  options: PlacingOptions,
): Promise<CountedMove[]> {
  const edges = createEdges();
  /** Splits that have rows which no move may take. */
  const fixed = new Set<Split>();
  for await (const { source, first, rows, bytes } of readBlocks(indexes, options.signal)) {
    for (let row = 0; row < rows; row++) {
      if (!isKept(fates[first + row] as number)) continue;
      const settled = settledSplit(bytes, row * INDEX_BYTES + GROUP_AT, options, source);
      if (settled === null) {
        const group = readGroup(bytes, row);
        const fraction = fractionOf(group, options.shares.salt);
        const split = allowedSplit(splitAt(fraction, options.shares), options, source);
        noteGroup(edges, split, { group, fraction });
        fates[first + row] = SPLITS.indexOf(split);
      } else {
        fixed.add(settled);
        fates[first + row] = SPLITS.indexOf(settled);
      }
    }
  }
  const moves = decideMoves(edges, options.shares, fixed);
  return await moveGroups(indexes, fates, moves, options);
}

function settledSplit(bytes: Buffer, at: number, { given, pins }: PlacingOptions, source: number): Split | null {
  const said = given[source] ?? null;
  if (said === 'test' || said === 'validation') return said;
  if (said === 'train' || pins.size === 0) return null;
  return SPLITS[pins.get(bytes, at)] ?? null;
}

/** Rows that a source gives for training are never tested on, and validate only where no source gives rows for that. */
function allowedSplit(split: Split, { given }: PlacingOptions, source: number): Split {
  if (given[source] !== 'train') return split;
  return split === 'test' || given.includes(split) ? 'train' : split;
}

async function moveGroups(
  indexes: RowIndex[],
  fates: Uint8Array,
  moves: Move[],
  options: PlacingOptions,
): Promise<CountedMove[]> {
  const counted = moves.map((move) => ({ ...move, rows: 0 }));
  if (counted.length === 0) return [];
  for await (const { source, first, rows, bytes } of readBlocks(indexes, options.signal)) {
    for (let row = 0; row < rows; row++) {
      if (!isKept(fates[first + row] as number)) continue;
      if (settledSplit(bytes, row * INDEX_BYTES + GROUP_AT, options, source) !== null) continue;
      const group = readGroup(bytes, row);
      const move = counted.findLast((one) => one.group === group);
      if (move === undefined) continue;
      move.rows++;
      fates[first + row] = SPLITS.indexOf(move.to);
    }
  }
  return counted;
}
