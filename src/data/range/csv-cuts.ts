// Finds where a CSV may be cut into ranges: the starts of records, as the parser itself finds them, broken quotes and all.
import type { CsvHeader } from '../csv.ts';
import { createParser, slicesOf } from '../readers.ts';
import type { Place } from '../rows-read.ts';

export interface CsvCuts {
  /** null = the source has no row and no header. */
  header: CsvHeader | null;
  /** In order; none twice. */
  cuts: Place[];
}

/**
 * The first record start at or behind each of the offsets, which are in order. Reads the source to the last of them.
 * @throws AnnealError `data_rejected` when the header cannot be used.
 */
export async function planCsvCuts(bytes: AsyncIterable<Uint8Array>, wished: number[], name: string): Promise<CsvCuts> {
  const cuts: Place[] = [];
  let header = null as CsvHeader | null;
  let next = 0;
  const onRecord = (start: Place) => {
    if (start.offset < (wished[next] ?? Number.POSITIVE_INFINITY)) return;
    cuts.push(start);
    while ((wished[next] ?? Number.POSITIVE_INFINITY) <= start.offset) next++;
  };
  const onHeader = (found: CsvHeader) => {
    header = found;
  };
  const parser = createParser('csv', { name, onHeader, onRecord }, { line: 1, offset: 0 });
  for await (const slice of slicesOf(bytes)) {
    parser.push(slice, () => {});
    if (next === wished.length) return { header, cuts };
  }
  parser.end(() => {});
  return { header, cuts };
}
