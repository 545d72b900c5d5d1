// Rows of a PostgreSQL query or table: one read-only transaction sees one state of the database, a cursor brings it row by row.
// The password comes from PGPASSWORD or ~/.pgpass of the data worker, as with every client of PostgreSQL, and is in no message.
import pg from 'pg';
import QueryStream from 'pg-query-stream';
import type { Source } from '../../contracts/data-spec.ts';
import { AnnealError } from '../../contracts/failure.ts';
import type { Mark } from '../../contracts/records.ts';
import { addressError, postgresError } from './postgres-errors.ts';
import { buildQuery } from './postgres-query.ts';
import { createTally, type Fetched, type Tally, type Watermark } from './postgres-tally.ts';
import { badSource } from './raw.ts';
import { selectOf } from './sql.ts';

/** Rows fetched at once: some megabytes of chats. */
const BATCH_ROWS = 500;
/** A server that has not answered by then is down, ms. */
const CONNECT_MS_MAX = 15_000;
/** Bytes handed on at once. */
const PIECE_LENGTH = 256 * 1024;

export interface PostgresRows {
  /** JSON objects, one a line. */
  bytes: AsyncIterable<Uint8Array>;
  /** Up to where it was read; whole once `bytes` are read, null without a watermark in the spec. */
  mark: () => Mark['watermark'];
  /** Rows that lie behind the earlier mark. */
  newRows: () => number;
  /** As the database's planner reckons, once the first bytes are read; null where it was not asked. */
  rowsEstimated: () => number | null;
}

interface PostgresOptions {
  /** Up to where it was read before. */
  after: Mark['watermark'];
  /** Whether the planner is asked for the number of rows. */
  isEstimated: boolean;
  signal: AbortSignal | undefined;
}

export function readPostgres(
  source: Source,
  uri: string,
  { after, isEstimated, signal }: PostgresOptions,
): PostgresRows {
  const select = selectOf(source, uri);
  const follow = source.follow || null;
  const watermark = follow?.watermark
    ? { ...follow.watermark, overlap: follow.overlap, isNewOnly: follow.mode === 'new', after }
    : null;
  if (follow?.mode === 'new' && watermark === null)
    throw badSource(uri, 'is followed for what is new; name `follow.watermark` with its column and key');
  const tally = createTally(watermark, uri);
  let rowsEstimated: number | null = null;
  const onEstimate = isEstimated ? (rows: number) => (rowsEstimated = rows) : null;
  return {
    bytes: readRows({ source, uri, select, watermark, onEstimate }, tally, signal),
    rowsEstimated: () => rowsEstimated,
    mark: () => (watermark === null ? null : tally.mark()),
    newRows: () => tally.newRows(),
  };
}

interface Reading {
  source: Source;
  uri: string;
  select: string;
  watermark: Watermark | null;
  onEstimate: ((rows: number) => void) | null;
}

async function* readRows(
  { source, uri, select, watermark, onEstimate }: Reading,
  tally: Tally,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  signal?.throwIfAborted();
  const client = createClient(source.uri, uri);
  // Errors of the connection also end the query that runs on it.
  client.on('error', () => undefined);
  const onAbort = () => void client.end().catch(() => undefined);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await client.connect();
    await begin(client);
    const { text, values } = await buildQuery(client, select, source.table, watermark, uri);
    if (onEstimate !== null) onEstimate(await estimateRows(client, { text, values }));
    const rows = client.query(new QueryStream(text, values, { batchSize: BATCH_ROWS, rowMode: 'array' }));
    yield* toLines(untilAborted(rows as AsyncIterable<Fetched>, signal), tally);
    await client.query('COMMIT');
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof AnnealError ? error : postgresError(error, uri);
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await client.end().catch(() => undefined);
  }
}

/** Out of the planner's statistics: nothing is read. */
async function estimateRows(client: pg.Client, query: { text: string; values: string[] }): Promise<number> {
  const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: { 'Plan Rows': number } }] }>({
    text: `EXPLAIN (FORMAT JSON) ${query.text}`,
    values: query.values,
  });
  return rows[0]?.['QUERY PLAN'][0].Plan['Plan Rows'] ?? 0;
}

/** The client takes these for `verify-full`, and says so in a paragraph each time. */
const WEAK_MODE = /([?&]sslmode=)(?:prefer|require|verify-ca)(?=&|$)(?!.*uselibpqcompat)/;

function createClient(address: string, uri: string): pg.Client {
  try {
    return new pg.Client({
      connectionString: address.replace(WEAK_MODE, '$1verify-full'),
      application_name: 'anneal',
      connectionTimeoutMillis: CONNECT_MS_MAX,
      keepAlive: true,
    });
  } catch (error) {
    throw addressError(error, uri);
  }
}

/** One thread and one order: the same table gives the same bytes. */
async function begin(client: pg.Client): Promise<void> {
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  const settings = ["timezone = 'UTC'", 'max_parallel_workers_per_gather = 0', 'synchronize_seqscans = off'];
  for (const setting of [...settings, 'statement_timeout = 0']) await client.query(`SET LOCAL ${setting}`);
}

/** A query whose connection was closed under it never answers, so it is not waited for. */
async function* untilAborted<T>(rows: AsyncIterable<T>, signal?: AbortSignal): AsyncGenerator<T> {
  if (signal === undefined) return yield* rows;
  let giveUp: (reason: unknown) => void = () => undefined;
  const onAbort = () => giveUp(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const iterator = rows[Symbol.asyncIterator]();
  const next = () =>
    new Promise<IteratorResult<T>>((resolve, reject) => {
      giveUp = reject;
      iterator.next().then(resolve, reject);
    });
  try {
    for (let row = await next(); !row.done; row = await next()) yield row.value;
  } finally {
    signal.removeEventListener('abort', onAbort);
    if (!signal.aborted) await iterator.return?.();
  }
}

async function* toLines(rows: AsyncIterable<Fetched>, tally: Tally): AsyncGenerator<Uint8Array> {
  let piece = '';
  for await (const row of rows) {
    if (!tally.take(row)) continue;
    piece += `${row[0]}\n`;
    if (piece.length < PIECE_LENGTH) continue;
    yield Buffer.from(piece);
    piece = '';
  }
  if (piece !== '') yield Buffer.from(piece);
}
