// Opens a source, wherever it lies: a file, an example, HTTP or S3. Every way in which that can fail is one sentence.
import { basename, extname, resolve } from 'node:path';
import type { Source } from '../contracts/data-spec.ts';
import { showUri } from '../contracts/source-uri.ts';
import type { Format } from './readers.ts';
import { checkReadable, limit, peek, tooLarge } from './source/content.ts';
import { exampleOf, fileOf, openFile } from './source/file.ts';
import { type HttpLimits, openHttp } from './source/http.ts';
import { badSource, type RawSource } from './source/raw.ts';
import { openS3, type ReadS3 } from './source/s3.ts';

/** Largest source, bytes: one process reads it at some 40 MB/s, so that this is seven minutes; shard what is larger. */
const SOURCE_BYTES_MAX = 16 * 1024 ** 3;

/** A server that has not begun to answer by then is down. */
const HTTP_ANSWER_TIMEOUT_MS = 30_000;

/** A server that sends nothing for so long has lost the connection. */
const HTTP_IDLE_TIMEOUT_MS = 60_000;

export interface SourceContext {
  /** Folder that `example:` sources are read from. */
  examplesFolder: string;
  readS3: ReadS3;
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

async function openRaw(address: string, uri: string, ctx: SourceContext, signal?: AbortSignal): Promise<RawSource> {
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
      return openHttp(address, uri, httpLimits(ctx), signal);
    case 's3':
      return openS3(address, uri, ctx.readS3, signal);
    default:
      throw badSource(uri, `has the unknown scheme \`${scheme}:\`; use a path, file://, http(s)://, s3:// or example:`);
  }
}

function httpLimits(ctx: SourceContext): HttpLimits {
  return {
    answerTimeoutMs: ctx.answerTimeoutMs ?? HTTP_ANSWER_TIMEOUT_MS,
    idleTimeoutMs: ctx.idleTimeoutMs ?? HTTP_IDLE_TIMEOUT_MS,
  };
}

function nameOf(address: string): string {
  return basename(showUri(address));
}
