// Of rows that came out of a table, the first tells which columns there are: a mapped column that is missing is told at once.
import type { Source } from '../../contracts/data-spec.ts';
import { requireColumns } from '../columns/columns.ts';

/** Looked at for the end of the first row, bytes: the longest row that is allowed. */
const ROW_BYTES_MAX = 16 * 1024 ** 2;

/** Hands the rows on. @throws AnnealError `data_rejected` before the first of them, naming the columns that there are. */
export async function* requireMapped(
  rows: AsyncIterable<Uint8Array>,
  columns: Source['columns'] | undefined,
  name: string,
): AsyncGenerator<Uint8Array> {
  let head: Buffer | null = columns ? Buffer.alloc(0) : null;
  for await (const piece of rows) {
    if (head === null || !columns) {
      yield piece;
      continue;
    }
    head = Buffer.concat([head, piece]);
    const end = head.indexOf(10);
    if (end < 0 && head.length < ROW_BYTES_MAX) continue;
    const names = end < 0 ? null : namesOf(head.toString('utf8', 0, end));
    if (names !== null) requireColumns(columns, names, name);
    yield head;
    head = null;
  }
  if (head !== null && head.length > 0) yield head;
}

/** null where the line is not JSON, which the stage that reads the rows tells better. */
function namesOf(line: string): string[] | null {
  try {
    return Object.keys(JSON.parse(line) as object);
  } catch {
    return null;
  }
}
