// Finds a column in a row by its name, or by its path: `answers.text[0]`.
import type { Fields } from '../fields.ts';

/** A column of that very name comes before a path; undefined where there is none. */
export function lookUp(row: Fields, column: string): unknown {
  if (Object.hasOwn(row, column)) return row[column];
  let value: unknown = row;
  for (const step of stepsOf(column)) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Fields)[step];
  }
  return value;
}

/** `a.b[0]` as a, b, 0. */
export function stepsOf(path: string): string[] {
  return path.match(/[^.[\]]+/g) ?? [];
}

/** The row's own columns, for a sentence. */
export function namesOf(row: Fields): string {
  return listNames(Object.keys(row));
}

export function listNames(names: readonly string[]): string {
  const shown = names.slice(0, 20).join(', ').slice(0, 300);
  return shown === '' ? 'none' : shown;
}
