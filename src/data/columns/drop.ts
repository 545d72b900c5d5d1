// Takes sensitive columns out of a row before anything else sees it, and out of what is shown of a row that is dropped.
import type { Fields } from '../fields.ts';
import { previewOf } from '../rows-read.ts';
import { stepsOf } from './look-up.ts';

/** Gives the row without the columns; a name may be a path such as `user.email`, through lists too. The row itself stays as it is. */
export type ColumnDropper = (row: Fields) => Fields;

export function createDropper(columns: readonly string[]): ColumnDropper {
  if (columns.length === 0) return (row) => row;
  return (row) => columns.reduce((left, column) => without(left, column), row);
}

function without(row: Fields, column: string): Fields {
  if (!Object.hasOwn(row, column)) return withoutPath(row, stepsOf(column)) as Fields;
  const { [column]: _dropped, ...left } = row;
  return left;
}

function withoutPath(value: unknown, steps: string[]): unknown {
  const [step, ...below] = steps;
  if (Array.isArray(value)) return value.map((entry) => withoutPath(entry, steps));
  if (step === undefined || typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return value;
  const { [step]: found, ...left } = value as Fields;
  return below.length === 0 ? left : { ...(value as Fields), [step]: withoutPath(found, below) };
}

/** What is shown of a row: its beginning, without the dropped columns. A row that could not be read cannot be told from them. */
export function createPreviewer(
  columns: readonly string[],
): (row: { value?: unknown; text: Buffer | string }) => string {
  if (columns.length === 0) return ({ text }) => previewOf(text);
  const drop = createDropper(columns);
  return ({ value }) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return NOT_SHOWN;
    try {
      return previewOf(JSON.stringify(drop(value as Fields)));
    } catch (error) {
      // V8 parses deeper nesting than it can write.
      if (error instanceof RangeError) return NOT_SHOWN;
      throw error;
    }
  };
}

const NOT_SHOWN = '(not shown, because `data.dropColumns` cannot be taken out of it)';
