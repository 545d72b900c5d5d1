// How many rows are left when short ones share one, as `pack_dataset(…, "bfd")` of TRL makes them: best fit, longest first. Pure.

/** Rows that are packed among themselves: TRL packs the batches of `datasets.map`. */
const WINDOW_ROWS = 1000;

export interface PackingEstimate {
  /** Of an epoch. */
  rows: number;
  /** Of each row: as long as the longest, tokens. */
  room: number;
  /** Share of that room that holds tokens, 0 to 1. */
  fill: number;
}

/** @param lengths tokens of each row, in the order of the rows. */
export function packingEstimate(lengths: number[]): PackingEstimate {
  const rows = packedRows(lengths);
  const room = longestOf(lengths);
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  return { rows, room, fill: rows === 0 ? 0 : tokens / (rows * room) };
}

/** @param lengths tokens of each row, in the order of the rows; no packed one is longer than the longest. */
export function packedRows(lengths: number[]): number {
  const room = longestOf(lengths);
  let rows = 0;
  for (let start = 0; start < lengths.length; start += WINDOW_ROWS) {
    rows += packWindow(lengths.slice(start, start + WINDOW_ROWS), room);
  }
  return rows;
}

function packWindow(lengths: number[], longest: number): number {
  /** How many open rows have so much room. */
  const open = new Array<number>(longest + 1).fill(0);
  let rows = 0;
  for (const length of lengths.sort((a, b) => b - a)) {
    let room = length;
    while (room <= longest && open[room] === 0) room++;
    if (room > longest) {
      rows++;
      room = longest;
    } else {
      open[room] = (open[room] as number) - 1;
    }
    open[room - length] = (open[room - length] as number) + 1;
  }
  return rows;
}

function longestOf(lengths: number[]): number {
  return lengths.reduce((most, length) => Math.max(most, length), 0);
}
