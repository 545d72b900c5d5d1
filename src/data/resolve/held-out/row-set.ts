// A set of rows by their numbers: a bit a row.

export interface RowSet {
  add(row: number): void;
  has(row: number): boolean;
}

export function createRowSet(rows: number): RowSet {
  const bits = new Uint8Array(Math.ceil(rows / 8));
  return {
    add(row) {
      bits[row >>> 3] = (bits[row >>> 3] as number) | (1 << (row & 7));
    },
    has: (row) => ((bits[row >>> 3] as number) & (1 << (row & 7))) !== 0,
  };
}
