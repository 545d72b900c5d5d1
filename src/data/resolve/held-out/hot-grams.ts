// Tells which grams everybody has, so that most of their rows are left out.

/** Grams whose last rows are remembered. */
const HOT_GRAMS = 65_536;

/**
 * Whether the gram stands in this row already, or was seen in enough rows lately.
 * @param rowsMax rows of a gram for which it says no at least; of one that has many more it says yes to most
 */
export function createHotGrams(rowsMax: number): (high: number, low: number, row: number) => boolean {
  const highs = new Int32Array(HOT_GRAMS);
  const lows = new Int32Array(HOT_GRAMS);
  const lastRow = new Int32Array(HOT_GRAMS).fill(-1);
  const rows = new Uint8Array(HOT_GRAMS);
  return (high, low, row) => {
    const at = low & (HOT_GRAMS - 1);
    if (lastRow[at] !== -1 && highs[at] === high && lows[at] === low) {
      if (lastRow[at] === row || (rows[at] as number) >= rowsMax) return true;
      rows[at] = Math.min(255, (rows[at] as number) + 1);
    } else {
      highs[at] = high;
      lows[at] = low;
      rows[at] = 1;
    }
    lastRow[at] = row;
    return false;
  };
}
