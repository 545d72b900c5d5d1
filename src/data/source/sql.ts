// What a database source asks for: a table by name, or one SELECT of the spec. Nothing here connects to anything.
import type { Source } from '../../contracts/data-spec.ts';
import { badSource } from './raw.ts';

/** @throws AnnealError `bad_request` when the source says neither or both, or something that changes data. */
export function selectOf({ query, table }: Pick<Source, 'query' | 'table'>, uri: string): string {
  if (query && table) throw badSource(uri, 'has both `query` and `table`; take one of them out');
  if (table) return `SELECT * FROM ${quoteName(table)}`;
  if (!query) throw badSource(uri, 'is a database; add `table`, or `query` with a SELECT');
  const statement = query.trim().replace(/;\s*$/, '');
  if (!/^(\(|select\b|with\b|values\b)/i.test(withoutComments(statement)))
    throw badSource(uri, 'has a `query` that is no SELECT; write one');
  return statement;
}

/** `schema.table` names a table in a schema. */
export function quoteName(name: string): string {
  return name
    .split('.')
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join('.');
}

function withoutComments(statement: string): string {
  return statement.replace(/^(\s*(--[^\n]*\n|\/\*[\s\S]*?\*\/))*\s*/, '');
}
