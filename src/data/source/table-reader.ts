// A process of its own that reads one Parquet or SQLite file and writes its rows to standard output, one JSON object a line.
// Hostile or huge files end it, not the worker. Its last words on standard error are one sentence's worth of reason.
import { once } from 'node:events';
import { DatabaseSync } from 'node:sqlite';
import { DuckDBInstance } from '@duckdb/node-api';

export interface TableJob {
  kind: 'parquet' | 'sqlite';
  path: string;
  /** Of SQLite: what to read. */
  sql: string | null;
  /** Of DuckDB, bytes. */
  memoryBytesMax: number;
}

/** Written at once, characters. */
const BATCH_LENGTH = 256 * 1024;

async function main(job: TableJob): Promise<void> {
  const lines = job.kind === 'parquet' ? readParquet(job) : readSqlite(job);
  let batch = '';
  for await (const line of lines) {
    batch += `${line}\n`;
    if (batch.length < BATCH_LENGTH) continue;
    await write(batch);
    batch = '';
  }
  await write(batch);
}

async function write(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

/** One thread keeps the order of the rows; everything that would reach out of the file is off. */
async function* readParquet({ path, memoryBytesMax }: TableJob): AsyncGenerator<string> {
  const instance = await DuckDBInstance.create(':memory:', {
    threads: '1',
    memory_limit: `${Math.floor(memoryBytesMax / 1024 ** 2)}MiB`,
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
    preserve_insertion_order: 'true',
    temp_directory: '',
  });
  const connection = await instance.connect();
  await connection.run("SET TimeZone = 'UTC'");
  const columns = await connection.runAndReadAll('DESCRIBE SELECT * FROM read_parquet(?)', [path]);
  // Out of the file's footer.
  const counted = await connection.runAndReadAll('SELECT count(*) FROM read_parquet(?)', [path]);
  process.send?.(Number(counted.getRows()[0]?.[0]));
  const fields = columns.getRows().map(([name, type]) => jsonField(String(name), String(type)));
  const sql = `SELECT to_json({${fields.join(', ')}})::VARCHAR FROM read_parquet(?)`;
  const rows = await connection.stream(sql, [path]);
  for (let chunk = await rows.fetchChunk(); chunk !== null && chunk.rowCount > 0; chunk = await rows.fetchChunk())
    for (const line of chunk.getColumnValues(0)) yield String(line);
}

/** Bytes become base64; those of an image, as Hugging Face keeps them, a data address, or the path where there are none. */
function jsonField(name: string, type: string): string {
  const column = `"${name.replaceAll('"', '""')}"`;
  return `${column}: ${jsonValue(column, type)}`;
}

function jsonValue(column: string, type: string): string {
  if (type === 'BLOB') return `base64(${column})`;
  if (!/^STRUCT\(\W?bytes\W? BLOB, \W?path\W? VARCHAR\)$/.test(type))
    // JSON has no such numbers.
    return /^(DOUBLE|FLOAT)$/.test(type) ? `CASE WHEN isfinite(${column}) THEN ${column} END` : column;
  return `coalesce('data:application/octet-stream;base64,' || base64(${column}.bytes), ${column}.path)`;
}

async function* readSqlite({ path, sql }: TableJob): AsyncGenerator<string> {
  const database = new DatabaseSync(path, { readOnly: true });
  const statement = database.prepare(sql as string);
  statement.setReadBigInts(true);
  for (const row of statement.iterate()) yield JSON.stringify(row, toJson);
}

function toJson(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  return value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value;
}

process.stdout.on('error', () => process.exit(0)); // the reader has left
main(JSON.parse(process.argv[2] as string) as TableJob).then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(error instanceof Error ? error.message : String(error));
    process.exit(1);
  },
);
