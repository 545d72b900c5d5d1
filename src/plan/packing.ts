// How many rows are left when short ones share one, as `pack_dataset(…, "bfd")` of TRL makes them: best fit, longest first. Pure.

/** @param lengths tokens of each row; no packed one is longer than the longest. */
export function packedRows(lengths: number[]): number {
  const longest = lengths.reduce((most, length) => Math.max(most, length), 0);
  /** How many open rows have so much room. */
  const open = new Array<number>(longest + 1).fill(0);
  let rows = 0;
  for (const length of lengths.toSorted((a, b) => b - a)) {
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
