// The fields of a row: taken out by name and type, or a fault that says what is wrong with which.
import type { DropCode } from '../contracts/rows.ts';
import { type Mismatch, RowFault } from './turns.ts';

export type Fields = Record<string, unknown>;

export function firstPresent(row: Fields, fields: readonly [string, ...string[]]): [string, unknown] {
  const field = fields.find((name) => isPresent(row[name])) ?? fields[0];
  return [field, row[field]];
}

export function requireOneOf(row: Fields, fields: readonly [string, ...string[]]): [string, string] {
  const [field, value] = firstPresent(row, fields);
  return [field, requireText(value, field)];
}

export function optionalText(row: Fields, fields: readonly [string, ...string[]]): [string, string] {
  const [field, value] = firstPresent(row, fields);
  return [field, isPresent(value) ? requireText(value, field) : ''];
}

export function requireText(value: unknown, path: string): string {
  if (typeof value === 'string') return value;
  if (value === undefined) throw missing(path, 'text');
  throw wrongType(path, 'text', value);
}

/** Also JSON text of a list, as tables hold it. */
export function requireList(given: unknown, path: string, least: 'one' | 'empty' = 'one'): unknown[] {
  const value = typeof given === 'string' && /^\s*\[/.test(given) ? parseJsonText(given, path) : given;
  if (value === undefined) throw missing(path, 'a list');
  if (!Array.isArray(value)) throw wrongType(path, 'a list', value);
  if (value.length === 0 && least === 'one')
    throw new RowFault('missing_field', path, `${path} is an empty list; fill it, or leave the row out`);
  return value;
}

export function requireObject(value: unknown, path: string, code: 'not_object' | 'wrong_type'): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  if (value === undefined) throw missing(path, 'an object');
  throw mismatch(code, path, { expected: 'an object', found: describe(value) }, 'write it as { … }');
}

/** A value that is not what the rule wants. */
export function mismatch(code: DropCode, path: string, values: Mismatch, fix: string): RowFault {
  const where = path === '' ? 'the row' : path;
  return new RowFault(code, path, `${where} must be ${values.expected}, found ${values.found}; ${fix}`, values);
}

function missing(path: string, wanted: string): RowFault {
  const sentence = `${path} is missing; add ${wanted}, or leave the row out`;
  return new RowFault('missing_field', path, sentence, { expected: wanted, found: 'nothing' });
}

export function wrongType(path: string, wanted: string, found: unknown): RowFault {
  const isPlain = typeof found === 'number' || typeof found === 'boolean';
  const fix = isPlain && wanted === 'text' ? 'put it into quotes' : `write it as ${wanted}`;
  return mismatch('wrong_type', path, { expected: wanted, found: describe(found) }, fix);
}

export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  if (value === undefined) return 'nothing';
  return `the ${typeof value === 'string' ? 'text' : typeof value} ${JSON.stringify(value).slice(0, 60)}`;
}

export function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null;
}

export function parseJsonText(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new RowFault(
      'wrong_type',
      path,
      `${path} must be JSON or JSON text, found text that is not JSON; write it with a JSON library`,
    );
  }
}
