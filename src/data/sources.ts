// Opens a source, wherever it lies: a file, an example, HTTP or S3. Every way in which that can fail is one sentence.
import { type FileHandle, open } from 'node:fs/promises';
import { basename, extname, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AnnealError } from '../contracts/failure.ts';
import type { Source } from '../contracts/spec.ts';
import type { Format } from './readers.ts';

/** Largest source, bytes: one process reads it at some 40 MB/s, so that this is seven minutes; shard what is larger. */
const SOURCE_BYTES_MAX = 16 * 1024 ** 3;

/** A server that has not begun to answer by then is down. */
const HTTP_ANSWER_TIMEOUT_MS = 30_000;

/** A server that sends nothing for so long has lost the connection. */
const HTTP_IDLE_TIMEOUT_MS = 60_000;

/** Bytes looked at for the format: white space before the first row is rarely longer. */
const HEAD_BYTES = 64 * 1024;

interface S3Object {
  bytes: AsyncIterable<Uint8Array>;
  etag: string | null;
  sizeBytes: number | null;
}

export interface SourceContext {
  /** Folder that `example:` sources are read from. */
  examplesFolder: string;
  /** The object, or null when bucket or key are not there. @throws AnnealError when the store cannot be asked. */
  readS3: (bucket: string, key: string, signal?: AbortSignal) => Promise<S3Object | null>;
  /** Instead of the limits above. */
  bytesMax?: number;
  answerTimeoutMs?: number;
  idleTimeoutMs?: number;
}

export interface OpenSource {
  /** The source's address without credentials and query, fit for records and messages. */
  uri: string;
  format: Format;
  etag: string | null;
  sizeBytes: number | null;
  /** To be read, to its end or until the loop is left; that closes what is open. */
  bytes: AsyncIterable<Uint8Array>;
}

/**
 * @throws AnnealError `bad_request` when the address is wrong, `source_unavailable` when its server does not answer,
 * `data_rejected` when what lies there cannot be read; the last also from `bytes`.
 */
export async function openSource(source: Source, ctx: SourceContext, signal?: AbortSignal): Promise<OpenSource> {
  const uri = showUri(source.uri);
  const raw = await openRaw(source.uri, uri, ctx, signal);
  const bytesMax = ctx.bytesMax ?? SOURCE_BYTES_MAX;
  const { head, rest } = await peek(raw.bytes);
  try {
    if (raw.sizeBytes !== null && raw.sizeBytes > bytesMax) throw tooLarge(uri, bytesMax);
    checkReadable(head, uri);
  } catch (error) {
    await rest.return?.();
    throw error;
  }
  const format = source.format === 'auto' ? detectFormat(nameOf(source.uri), head) : source.format;
  return { uri, format, etag: raw.etag, sizeBytes: raw.sizeBytes, bytes: limit(head, rest, uri, bytesMax, signal) };
}

/** The address without user, password and query, which may hold secrets. */
export function showUri(uri: string): string {
  if (!/^https?:\/\//i.test(uri) || !URL.canParse(uri)) return uri;
  const url = new URL(uri);
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** By the name's ending, else by the first character that is no white space. A `.json` file may hold either kind of JSON. */
export function detectFormat(name: string, head: Uint8Array): Format {
  const extension = extname(name).toLowerCase();
  if (extension === '.jsonl' || extension === '.ndjson') return 'jsonl';
  if (extension === '.csv' || extension === '.tsv') return 'csv';
  const first = Buffer.from(head)
    .toString('utf8')
    .replace(/^\ufeff/, '')
    .trimStart()[0];
  if (first === '[') return 'json';
  return first === '{' ? 'jsonl' : 'csv';
}

type Raw = { bytes: AsyncIterable<Uint8Array>; etag: string | null; sizeBytes: number | null };

async function openRaw(address: string, uri: string, ctx: SourceContext, signal?: AbortSignal): Promise<Raw> {
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(address)?.[1]?.toLowerCase() ?? null;
  switch (scheme) {
    case null:
      return openFile(resolve(address), uri, 'correct the path, which is looked for on the data worker');
    case 'file':
      return openFile(fileOf(address, uri), uri, 'correct the path, which is looked for on the data worker');
    case 'example':
      return openFile(
        exampleOf(address, ctx.examplesFolder),
        uri,
        'the set-up writes the examples; run it again, or correct the name',
      );
    case 'http':
    case 'https':
      return openHttp(address, uri, ctx, signal);
    case 's3':
      return openS3(address, uri, ctx, signal);
    default:
      throw badSource(uri, `has the unknown scheme \`${scheme}:\`; use a path, file://, http(s)://, s3:// or example:`);
  }
}

async function openFile(path: string, uri: string, remedy: string): Promise<Raw> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    throw fileError(error, path, uri, remedy);
  });
  const stat = await file.stat();
  if (!stat.isFile()) {
    await file.close();
    const what = stat.isDirectory() ? 'a folder' : 'no regular file';
    throw badSource(uri, `is ${what} (${path}); name a file in it`);
  }
  return { bytes: streamFile(file, stat.mtimeMs, uri), etag: null, sizeBytes: stat.size };
}

async function* streamFile(file: FileHandle, mtimeMs: number, uri: string): AsyncGenerator<Uint8Array> {
  try {
    yield* file.createReadStream({ autoClose: false, highWaterMark: 1024 * 1024 });
    if ((await file.stat()).mtimeMs !== mtimeMs)
      throw new AnnealError(
        'source_unavailable',
        `Source ${uri} changed while it was read; try again when its writer is done.`,
      );
  } finally {
    await file.close();
  }
}

function fileError(error: NodeJS.ErrnoException, path: string, uri: string, remedy: string): Error {
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return badSource(uri, `is not there (${path}); ${remedy}`, error);
    case 'EACCES':
    case 'EPERM':
      return badSource(
        uri,
        `may not be read (${path}, ${error.code}); give the data worker's user the right to`,
        error,
      );
    default:
      return new AnnealError(
        'source_unavailable',
        `Source ${uri} could not be opened (${path}, ${error.code ?? error.message}); look at the disk.`,
        { cause: error },
      );
  }
}

function fileOf(address: string, uri: string): string {
  try {
    return fileURLToPath(address);
  } catch (error) {
    throw badSource(uri, 'is no valid file address; write file:// and the absolute path', error);
  }
}

function exampleOf(address: string, folder: string): string {
  const root = resolve(folder);
  const path = resolve(root, address.slice('example:'.length));
  if (!path.startsWith(root + sep))
    throw badSource(address, 'leaves the folder of the examples; name a file inside it');
  return path;
}

async function openHttp(address: string, uri: string, ctx: SourceContext, signal?: AbortSignal): Promise<Raw> {
  if (!URL.canParse(address)) throw badSource(uri, 'is no valid web address; correct it');
  const stop = new AbortController();
  const onAbort = () => stop.abort(signal?.reason);
  if (signal?.aborted) onAbort();
  signal?.addEventListener('abort', onAbort, { once: true });
  const done = () => signal?.removeEventListener('abort', onAbort);
  try {
    const request = fetch(address, { signal: stop.signal, headers: { accept: '*/*' } });
    const response = await within(request, ctx.answerTimeoutMs ?? HTTP_ANSWER_TIMEOUT_MS, stop);
    if (!response.ok) {
      await response.body?.cancel();
      throw statusError(response, uri);
    }
    // A compressed answer's length says nothing about the bytes that are read.
    const length = response.headers.get('content-encoding') === null ? response.headers.get('content-length') : null;
    const bytes = streamHttp(response, uri, ctx.idleTimeoutMs ?? HTTP_IDLE_TIMEOUT_MS, stop, done);
    return { bytes, etag: response.headers.get('etag'), sizeBytes: length === null ? null : Number(length) };
  } catch (error) {
    done();
    throw networkError(error, uri, signal);
  }
}

async function* streamHttp(
  response: Response,
  uri: string,
  idleTimeoutMs: number,
  stop: AbortController,
  done: () => void,
): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  try {
    while (reader !== undefined) {
      const piece = await within(reader.read(), idleTimeoutMs, stop);
      if (piece.done) return;
      yield piece.value;
    }
  } catch (error) {
    throw networkError(error, uri, stop.signal.reason instanceof Silence ? undefined : stop.signal);
  } finally {
    done();
    await reader?.cancel().catch(() => undefined);
  }
}

/** Nothing came for this long. */
class Silence extends Error {
  constructor(ms: number) {
    super(`nothing came for ${ms} ms`);
    this.name = 'Silence';
  }
}

async function within<T>(promise: Promise<T>, ms: number, stop: AbortController): Promise<T> {
  const timer = setTimeout(() => stop.abort(new Silence(ms)), ms);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

function statusError(response: Response, uri: string): AnnealError {
  const { status } = response;
  if (status === 408 || status === 429 || status >= 500)
    return new AnnealError(
      'source_unavailable',
      `Source ${uri} is not available now (HTTP ${status}); it is asked again later.`,
    );
  const remedy =
    status === 401 || status === 403
      ? 'put a signed address into the spec, or make it readable for the data worker'
      : 'correct the address';
  return badSource(uri, `was refused by its server (HTTP ${status}); ${remedy}`);
}

function networkError(error: unknown, uri: string, signal?: AbortSignal): unknown {
  if (error instanceof AnnealError || signal?.aborted) return error;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason = cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : String(cause);
  if (error instanceof TypeError && /credentials/.test(error.message))
    return badSource(uri, 'holds a user or password, which is not supported; use a signed address', error);
  return new AnnealError(
    'source_unavailable',
    `Source ${uri} could not be read (${reason}); check the address and the network.`,
    { cause: error },
  );
}

async function openS3(address: string, uri: string, ctx: SourceContext, signal?: AbortSignal): Promise<Raw> {
  const match = /^s3:\/\/([^/]+)\/(.+)$/i.exec(address);
  if (match === null) throw badSource(uri, 'must be s3://bucket/key; add what is missing');
  const [, bucket, key] = match as unknown as [string, string, string];
  const object = await ctx.readS3(bucket, key, signal);
  if (object === null)
    throw badSource(uri, `is not there (bucket ${bucket}, key ${key}); correct the bucket or the key`);
  return object;
}

async function peek(bytes: AsyncIterable<Uint8Array>): Promise<{ head: Buffer; rest: AsyncIterator<Uint8Array> }> {
  const rest = bytes[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (head.length < HEAD_BYTES && isWhiteSpace(head)) {
    const piece = await rest.next();
    if (piece.done) break;
    head = Buffer.concat([head, piece.value]);
  }
  return { head, rest };
}

async function* limit(
  head: Buffer,
  rest: AsyncIterator<Uint8Array>,
  uri: string,
  bytesMax: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let sizeBytes = 0;
  let isEmpty = true;
  try {
    for (let piece: Uint8Array | null = head; piece !== null; piece = await nextPiece(rest)) {
      signal?.throwIfAborted();
      sizeBytes += piece.length;
      if (sizeBytes > bytesMax) throw tooLarge(uri, bytesMax);
      isEmpty &&= isWhiteSpace(piece);
      if (piece.length > 0) yield piece;
    }
    if (isEmpty) throw emptySource(uri);
  } finally {
    await rest.return?.();
  }
}

async function nextPiece(iterator: AsyncIterator<Uint8Array>): Promise<Uint8Array | null> {
  const piece = await iterator.next();
  return piece.done ? null : piece.value;
}

/** First bytes of files that are no text, and what they are. */
const SIGNATURES: readonly (readonly [string, string, string])[] = [
  ['\x1f\x8b', 'gzip-compressed', 'unpack it'],
  ['\x28\xb5\x2f\xfd', 'zstd-compressed', 'unpack it'],
  ['PK\x03\x04', 'a ZIP archive or an Excel workbook', 'unpack it, or save it as CSV'],
  ['PAR1', 'Parquet', 'write it as JSONL'],
  ['\xff\xfe', 'UTF-16 text', 'save it as UTF-8'],
  ['\xfe\xff', 'UTF-16 text', 'save it as UTF-8'],
];

function checkReadable(head: Buffer, uri: string): void {
  const start = head.toString('latin1', 0, 4);
  const found = SIGNATURES.find(([signature]) => start.startsWith(signature));
  if (found === undefined) return;
  throw new AnnealError('data_rejected', `Source ${uri} is ${found[1]}, which is not read; ${found[2]}.`);
}

function isWhiteSpace(bytes: Uint8Array): boolean {
  return bytes.every(
    (byte) =>
      byte === 32 || byte === 9 || byte === 10 || byte === 13 || byte === 0xef || byte === 0xbb || byte === 0xbf,
  );
}

function emptySource(uri: string): AnnealError {
  return new AnnealError(
    'data_rejected',
    `Source ${uri} is empty; put rows into it, or take it out of \`data.sources\`.`,
  );
}

function tooLarge(uri: string, bytesMax: number): AnnealError {
  return new AnnealError(
    'data_rejected',
    `Source ${uri} is larger than ${bytesMax} bytes, the most that one source may have; cut it into several.`,
  );
}

function badSource(uri: string, what: string, cause?: unknown): AnnealError {
  return new AnnealError('bad_request', `Source ${uri} ${what}.`, cause === undefined ? {} : { cause });
}

function nameOf(address: string): string {
  return basename(showUri(address));
}
