// Parquet and SQLite files as JSONL, read by a process of its own from a file on this disk.
import type { Readable } from 'node:stream';
import { AnnealError } from '../../contracts/failure.ts';
import { startReader } from './child.ts';
import type { TableJob } from './table-reader.ts';

/** Of DuckDB: a row group of 128 MiB, which is what writers make, unpacked. */
const DUCKDB_BYTES_MAX = 768 * 1024 ** 2;
/** Of the whole process: DuckDB's own, Node's and one batch. */
const MEMORY_BYTES_MAX = 1536 * 1024 ** 2;
/** Kept of what it says at its end, characters. */
const REASON_LENGTH_MAX = 300;

/**
 * @param onRows hears how many there are, where the file says so.
 * @throws AnnealError `data_rejected` with the reader's reason.
 */
export async function* readTable(
  job: Omit<TableJob, 'memoryBytesMax'>,
  uri: string,
  onRows: (count: number) => void,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const reader = startReader(
    'table-reader',
    [JSON.stringify({ ...job, memoryBytesMax: DUCKDB_BYTES_MAX } satisfies TableJob)],
    { memoryBytesMax: MEMORY_BYTES_MAX, addons: true },
    { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] },
  );
  const { process: child } = reader;
  child.on('message', (count) => onRows(count as number));
  let reason = '';
  child.stderr?.on('data', (text: Buffer) => {
    reason = (reason + text).slice(-REASON_LENGTH_MAX * 4);
  });
  const ended = new Promise<number | null>((done) => child.once('close', (code) => done(code)));
  const onAbort = () => reader.end(null);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    yield* child.stdout as Readable;
    const code = await ended;
    signal?.throwIfAborted();
    if (code !== 0) throw unreadable(job, uri, reader.endedFor() === 'memory', reason);
  } finally {
    signal?.removeEventListener('abort', onAbort);
    reader.end(null);
    await ended;
  }
}

function unreadable(
  { kind, sql }: Omit<TableJob, 'memoryBytesMax'>,
  uri: string,
  isMemory: boolean,
  reason: string,
): AnnealError {
  if (isMemory || /out of memory/i.test(reason))
    return new AnnealError(
      'data_rejected',
      `Source ${uri} needs more than ${MEMORY_BYTES_MAX} bytes of memory to read; write it with smaller row groups, or as JSONL.`,
    );
  if (kind !== 'parquet' && /database (?:table )?is locked/i.test(reason))
    return new AnnealError(
      'source_unavailable',
      `Source ${uri} is being written by another process and is locked; wait for it, or read a copy (\`VACUUM INTO\`).`,
    );
  const sentence = plainReason(reason).slice(0, REASON_LENGTH_MAX) || 'its reader died';
  const what = kind === 'parquet' ? 'could not be read as Parquet' : 'could not be read as a SQLite database';
  return new AnnealError(
    'data_rejected',
    `Source ${uri} ${what} (${sentence}); ${sql === null ? 'write it again' : 'correct `query` or `table`'}.`,
  );
}

/** Without the statement and the file of ours that it was about. */
function plainReason(reason: string): string {
  return reason
    .replace(/\n+LINE \d+:[\s\S]*/, '')
    .replaceAll(/ ?'[^']*\/[^']*'/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
}
