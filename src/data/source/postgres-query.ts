// The statement that reads a PostgreSQL source: each row as JSON, in an order that is always the same, from the watermark on.
import type pg from 'pg';
import type { Watermark } from './postgres-tally.ts';
import { badSource } from './raw.ts';
import { quoteName } from './sql.ts';

/** The row as a whole: a name that no column has. */
const ROW = 'anneal_row';

interface Query {
  text: string;
  values: string[];
}

/** Gives rows of the kind `Fetched`. @throws AnnealError `bad_request` for a watermark that does not grow. */
export async function buildQuery(
  client: pg.Client,
  select: string,
  table: string | null,
  watermark: Watermark | null,
  uri: string,
): Promise<Query> {
  const from = `FROM (\n${select}\n) AS ${ROW}`;
  if (watermark === null) {
    const order = table === null ? [] : await primaryKey(client, table);
    return { text: `SELECT row_to_json(${ROW})::text ${from}${orderBy(order)}`, values: [] };
  }
  const [column, key] = [quoteName(watermark.column), quoteName(watermark.key)] as const;
  const type = await typeOf(client, `SELECT ${column}, ${key} ${from} LIMIT 0`, uri);
  const { after, overlap, isNewOnly } = watermark;
  const number = type.isTime ? `extract(epoch FROM ${ROW}.${column})::float8` : `${ROW}.${column}::float8`;
  const step = type.isTime ? 'make_interval(secs => $1)' : '$1::numeric';
  const isBehind = after === null ? 'true' : `${ROW}.${column} >= $2::${type.name} - ${step}`;
  const where = isNewOnly ? ` WHERE ${isBehind}` : '';
  return {
    text: `SELECT row_to_json(${ROW})::text, ${ROW}.${column}::text, ${ROW}.${key}::text, ${number}, ${isBehind} ${from}${where}${orderBy([watermark.column, watermark.key])}`,
    values: after === null ? [] : [String(overlap), after.column],
  };
}

function orderBy(columns: string[]): string {
  return columns.length === 0 ? '' : ` ORDER BY ${columns.map((name) => `${ROW}.${quoteName(name)}`).join(', ')}`;
}

async function primaryKey(client: pg.Client, table: string): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT a.attname AS name FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(number, place), pg_attribute a
     WHERE i.indrelid = to_regclass($1) AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place`,
    [quoteName(table)],
  );
  return rows.map(({ name }) => name);
}

/** PostgreSQL's numbers of types that grow. */
const TYPES: Record<number, { name: string; isTime: boolean }> = {
  20: { name: 'int8', isTime: false },
  21: { name: 'int2', isTime: false },
  23: { name: 'int4', isTime: false },
  1700: { name: 'numeric', isTime: false },
  1082: { name: 'date', isTime: true },
  1114: { name: 'timestamp', isTime: true },
  1184: { name: 'timestamptz', isTime: true },
};

async function typeOf(client: pg.Client, text: string, uri: string): Promise<{ name: string; isTime: boolean }> {
  const { fields } = await client.query({ text, rowMode: 'array' });
  const type = TYPES[fields[0]?.dataTypeID ?? 0];
  if (type === undefined)
    throw badSource(
      uri,
      `is followed by the column ${fields[0]?.name}, which is neither a time nor a number; name another`,
    );
  return type;
}
