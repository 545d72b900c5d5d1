// Opens sources as rows of three formats (JSONL, a JSON array, CSV), whatever they were: unpacked, converted, read out of tables,
// documents and databases. Every way in which that can fail is one sentence.
import { extname } from 'node:path';
import type { Source } from '../contracts/data-spec.ts';
import { showUri } from '../contracts/source-uri.ts';
import type { Format } from './readers.ts';
import { codingOf, unpack, unpackedName } from './source/compression.ts';
import {
  type Ahead,
  checkReadable,
  closeUnread,
  hashInPassing,
  limit,
  readAhead,
  requireLineEnds,
  tooLarge,
} from './source/content.ts';
import { SOURCE_BYTES_MAX, type SourceContext } from './source/context.ts';
import { collectDocument, createDocumentReader, documentLines, isDocumentName } from './source/documents.ts';
import { decideEncoding, SAMPLE_BYTES, toUtf8 } from './source/encoding.ts';
import type { SourceFile } from './source/files.ts';
import { badSource, type RawSource } from './source/raw.ts';
import { openRaw, placeOf } from './source/raw-source.ts';
import { selectOf } from './source/sql.ts';
import { requireMapped } from './source/table-columns.ts';
import { readTable } from './source/tables.ts';
import { atMost, copyToDisk, TooLargeToCopy } from './source/temporary-copy.ts';

export type { SourceContext } from './source/context.ts';

export interface OpenSource {
  /** The source's address without credentials and query, fit for records and messages. */
  uri: string;
  format: Format;
  etag: string | null;
  versionId?: string | null;
  /** Of `bytes`; null where that is not known before they are read. */
  sizeBytes: number | null;
  /** To be read, to its end or until the loop is left; that closes what is open. */
  bytes: AsyncIterable<Uint8Array>;
  /** What is done to the bytes, such as `gzip`; whole once they are read. */
  converted: () => string[];
  /** SHA-256 of the bytes as they lie at the source, once they are read; null where `bytes` are these. */
  originSha256: () => string | null;
  /** Of the bytes at the source, the share that was read so far; null where `bytes` do not come along with them. */
  share: () => number | null;
  /** Rows in all, as far as they are known before they are read. */
  rowsEstimated: () => number | null;
}

/**
 * One file, or one object of a store, or one SQLite database.
 * @throws AnnealError `bad_request` when the address is wrong, `source_unavailable` when its server does not answer,
 * `data_rejected` when what lies there cannot be read; the last also from `bytes`.
 */
export async function openSource(
  source: Source,
  ctx: SourceContext,
  signal?: AbortSignal,
  file?: SourceFile,
): Promise<OpenSource> {
  const address = file?.address ?? source.uri;
  const uri = showUri(address);
  const version = file?.etag ? { etag: file.etag } : undefined;
  const raw = await openRaw({ ...source, uri: address }, ctx, signal, version);
  const { bytesMax = SOURCE_BYTES_MAX } = ctx;
  const origin = hashInPassing(raw.bytes);
  const ahead = await readAhead(origin.bytes, SAMPLE_BYTES);
  try {
    if (raw.sizeBytes !== null && raw.sizeBytes > bytesMax) throw tooLarge(uri, bytesMax);
    const opened = { address, uri, source, ctx, signal, name: file?.name ?? uri, ahead, raw, converted: [] };
    const { isInPassing, ...content } = await openContent(opened);
    if (content.bytes === ahead.bytes) origin.stop();
    return {
      ...content,
      ...{ uri, etag: raw.etag, versionId: raw.versionId ?? null, originSha256: origin.sha256 },
      bytes: limit(content.bytes, uri, bytesMax, signal),
      share: () => (raw.sizeBytes === null || !isInPassing ? null : origin.bytesRead() / raw.sizeBytes),
    };
  } catch (error) {
    await closeUnread(ahead.bytes);
    throw error;
  }
}

interface Opened {
  address: string;
  uri: string;
  source: Source;
  ctx: SourceContext;
  signal: AbortSignal | undefined;
  name: string;
  ahead: Ahead;
  raw: Pick<RawSource, 'sizeBytes'>;
  converted: string[];
}
type Content = Pick<OpenSource, 'format' | 'sizeBytes' | 'bytes' | 'converted' | 'rowsEstimated'> & {
  /** Bytes come as those at the source are read, not once all of them are. */
  isInPassing: boolean;
};

async function openContent(opened: Opened): Promise<Content> {
  const { uri, ahead, name, converted } = opened;
  const coding = codingOf(ahead.head);
  if (coding !== null && converted.length === 0) {
    const unpacked = await readAhead(unpack(ahead.bytes, coding, uri), SAMPLE_BYTES);
    const inner = { ...opened, name: unpackedName(name), ahead: unpacked, raw: { sizeBytes: null } };
    return await openContent({ ...inner, converted: [coding] });
  }
  switch (kindOf(opened)) {
    case 'parquet':
      return convertingTable(opened, 'parquet', null);
    case 'sqlite':
      return convertingTable(opened, 'sqlite', selectOf(opened.source, uri));
    case 'document':
      return converting(opened, 'document', readDocument(opened));
    case 'text':
      return openText(opened);
  }
}

function kindOf({ ahead: { head }, name, source, uri }: Opened): 'parquet' | 'sqlite' | 'document' | 'text' {
  const start = head.toString('latin1', 0, 256);
  if (start.startsWith('SQLite format 3\0')) return 'sqlite';
  if (source.query || source.table)
    throw badSource(uri, 'is no database, so it has no `query` and no `table`; take them out');
  if (source.format === 'parquet' || start.startsWith('PAR1')) return 'parquet';
  if (source.format === 'document') return 'document';
  const isDocument = source.format === 'auto' && isDocumentName(name) && !isTable(name, head);
  const looksLikeOne = source.format === 'auto' && /^(%PDF-|\s*<(!doctype\s+html|html[\s>]))/i.test(start);
  return isDocument || looksLikeOne ? 'document' : 'text';
}

/** A `.txt` file may be a table after all: its first line is then a list of names. */
function isTable(name: string, head: Buffer): boolean {
  if (!/\.(txt|text)$/i.test(name)) return false;
  const first = head.toString('utf8', 0, 4096).trimStart();
  return /^[[{]/.test(first) || /^"?[\w-]+"?([,;\t]"?[\w-]+"?)+\r?(\n|$)/.test(first);
}

function convertingTable(opened: Opened, kind: 'parquet' | 'sqlite', sql: string | null): Content {
  let rowsEstimated: number | null = null;
  const rows = readFromDisk(opened, kind, sql, (count) => {
    rowsEstimated = count;
  });
  const content = converting(opened, kind, requireMapped(rows, opened.source.columns, `Source ${opened.uri}`));
  return { ...content, rowsEstimated: () => rowsEstimated };
}

function converting(opened: Opened, what: string, bytes: AsyncIterable<Uint8Array>): Content {
  const converted = [...opened.converted, what];
  return { format: 'jsonl', sizeBytes: null, bytes, converted: () => converted, ...NOT_IN_PASSING };
}

const NOT_IN_PASSING = { isInPassing: false, rowsEstimated: () => null };
const IN_PASSING = { isInPassing: true, rowsEstimated: () => null };

function openText({ ahead, uri, source, name, raw, converted }: Opened): Content {
  checkReadable(ahead.head, uri);
  const encoding = decideEncoding(ahead.head, source.encoding, uri);
  const format = formatOf(source.format, name, ahead.head, encoding);
  if (format !== 'json') requireLineEnds(ahead.head, uri);
  if (encoding === null)
    return { format, sizeBytes: raw.sizeBytes, bytes: ahead.bytes, converted: () => converted, ...IN_PASSING };
  const { bytes, lost } = toUtf8(ahead.bytes, encoding);
  const what = () => (lost() === 0 ? encoding : `${encoding} (unreadable characters: ${lost()})`);
  return { format, sizeBytes: null, bytes, converted: () => [...converted, what()], ...IN_PASSING };
}

function formatOf(wanted: Source['format'], name: string, head: Buffer, encoding: string | null): Format {
  if (wanted === 'jsonl' || wanted === 'json' || wanted === 'csv') return wanted;
  return detectFormat(name, encoding?.startsWith('utf-16') ? Buffer.from(head.filter((byte) => byte !== 0)) : head);
}

/** By the name's ending, else by the first character that is no white space. A `.json` file may hold either kind of JSON. */
export function detectFormat(name: string, head: Uint8Array): Format {
  const extension = extname(unpackedName(name)).toLowerCase();
  if (extension === '.jsonl' || extension === '.ndjson') return 'jsonl';
  if (extension === '.csv' || extension === '.tsv') return 'csv';
  const first = Buffer.from(head)
    .toString('utf8')
    .replace(/^(\ufeff|\ufffd\ufffd)/, '')
    .trimStart()[0];
  if (first === '[') return 'json';
  return first === '{' ? 'jsonl' : 'csv';
}

/** A database on this disk is read where it lies, because its newest rows may lie in files beside it. */
async function* readFromDisk(
  { address, ahead, uri, ctx, signal, converted, raw: { sizeBytes } }: Opened,
  kind: 'parquet' | 'sqlite',
  sql: string | null,
  onRows: (count: number) => void,
): AsyncGenerator<Uint8Array> {
  // Who copies little reads a little: nothing of it need stay as it is.
  const isInPlace = kind === 'sqlite' || ctx.copyBytesMax !== undefined;
  const place = isInPlace && converted.length === 0 ? placeOf(address, ctx) : null;
  if (place !== null) {
    await closeUnread(ahead.bytes);
    yield* readTable({ kind, path: place.path, sql }, uri, onRows, signal);
    return;
  }
  const { copyBytesMax = Number.POSITIVE_INFINITY } = ctx;
  if ((sizeBytes ?? 0) > copyBytesMax) throw new TooLargeToCopy(uri);
  const copy = await copyToDisk(atMost(ahead.bytes, copyBytesMax, uri), uri, ctx.temporaryFolder, ctx.bytesMax, signal);
  try {
    yield* readTable({ kind, path: copy.path, sql }, uri, onRows, signal);
  } finally {
    await copy.remove();
  }
}

async function* readDocument({ ahead, name, uri, source, signal }: Opened): AsyncGenerator<Uint8Array> {
  const bytes = await collectDocument(limit(ahead.bytes, uri, Number.POSITIVE_INFINITY, signal));
  const file = name === uri ? (uri.split('/').at(-1) ?? uri) : name;
  const reader = createDocumentReader();
  try {
    yield Buffer.from(
      `${(await documentLines(reader, { name: file, bytes, encoding: source.encoding }, signal)).join('\n')}\n`,
    );
  } finally {
    await reader[Symbol.asyncDispose]();
  }
}
