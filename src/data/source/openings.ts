// What there is to read for one source of a spec, piece by piece: each file of rows by itself, all documents together, a database's rows.

import type { Source } from '../../contracts/data-spec.ts';
import { plural } from '../../contracts/plural.ts';
import type { Mark } from '../../contracts/records.ts';
import type { Split } from '../../contracts/rows.ts';
import { isDatabase, showUri } from '../../contracts/source-uri.ts';
import { type OpenSource, openSource } from '../sources.ts';
import { hashInPassing, limit } from './content.ts';
import { SOURCE_BYTES_MAX, type SourceContext } from './context.ts';
import { collectDocument, createDocumentReader, documentLines } from './documents.ts';
import { versionOnDisk } from './file.ts';
import { findFiles, isDocument, type SourceFile } from './files.ts';
import { badSource } from './raw.ts';
import { openRaw, schemeOf } from './raw-source.ts';
import { requireMapped } from './table-columns.ts';

/** The bytes of one thing as they lie at the source. */
export interface Origin {
  name: string;
  sha256: string;
}

export interface Opened extends Omit<OpenSource, 'originSha256'> {
  /** Once `bytes` are read. */
  origins: () => Origin[];
  /** Of a database that is followed, once `bytes` are read. */
  mark: () => Mark['watermark'];
  /** Rows that are new since the earlier mark. */
  newRows: () => number;
}

export interface Opening {
  /** Shown. */
  uri: string;
  /** Tells it from the others of the source, and its content from another where that is known. */
  name: string;
  etag: string | null;
  split: Split | null;
  open(signal?: AbortSignal): Promise<Opened>;
}

export interface Openings {
  openings: Opening[];
  isMany: boolean;
  /** Files that there are, by what tells one content from another; of followed sources. */
  files: Mark['files'];
  notes: string[];
}

/** @param after up to where a followed source was taken before. */
export async function planOpenings(
  source: Source,
  ctx: SourceContext,
  after: Mark | null,
  signal?: AbortSignal,
): Promise<Openings> {
  const uri = showUri(source.uri);
  if (schemeOf(source.uri)?.startsWith('postgres'))
    return onlyOne(uri, (signal) => openDatabase(source, uri, ctx, after, signal));
  const { files, isMany, notes } = await findFiles(source, ctx, signal);
  if (!isDatabase(source.uri) && (source.query || source.table))
    if (isMany) throw badSource(uri, 'is no database, so it has no `query` and no `table`; take them out');
  if (!source.follow) return { openings: groupFiles(files, isMany, source, ctx), isMany, files: {}, notes };
  if (!isMany)
    throw badSource(
      uri,
      'is followed, which only folders, patterns, prefixes and PostgreSQL can be; take `follow` out',
    );
  const versions = await versionsOf(files);
  const news = files.filter(({ name }) => after?.files[name] !== versions[name]);
  const taken = source.follow.mode === 'new' ? news : files;
  return {
    openings: groupFiles(taken, isMany, source, ctx),
    ...{ isMany, files: versions },
    notes: [...notes, ...(after === null ? [] : [`${plural(news.length, 'new file')} in ${uri}`])],
  };
}

function onlyOne(uri: string, open: Opening['open']): Openings {
  return { openings: [{ uri, name: uri, etag: null, split: null, open }], isMany: false, files: {}, notes: [] };
}

/** Its client is loaded where it is needed: most workers never meet a database. */
async function openDatabase(
  source: Source,
  uri: string,
  { bytesMax = SOURCE_BYTES_MAX, estimates = false }: SourceContext,
  after: Mark | null,
  signal?: AbortSignal,
): Promise<Opened> {
  const { readPostgres } = await import('./postgres.ts');
  const options = { after: after?.watermark ?? null, isEstimated: estimates, signal };
  const { bytes, mark, newRows, rowsEstimated } = readPostgres(source, uri, options);
  return {
    ...{ uri, format: 'jsonl', etag: null, sizeBytes: null, mark, newRows, rowsEstimated, share: () => null },
    bytes: limit(requireMapped(bytes, source.columns, `Source ${uri}`), uri, bytesMax, signal),
    converted: () => ['postgres'],
    origins: () => [],
  };
}

async function versionsOf(files: SourceFile[]): Promise<Mark['files']> {
  const versions: Mark['files'] = {};
  for (const { name, address, etag } of files) versions[name] = etag ?? (await versionOnDisk(address));
  return versions;
}

/** Documents are one JSONL of texts, for they may be many and small. */
function groupFiles(files: SourceFile[], isMany: boolean, source: Source, ctx: SourceContext): Opening[] {
  const documents = isMany ? files.filter(({ name }) => isDocument(name, source.format)) : [];
  const rows = files.filter((file) => !documents.includes(file)).map((file) => openingOf(file, source, ctx));
  return documents.length === 0 ? rows : [...rows, openingOfDocuments(documents, source, ctx)];
}

function openingOf(file: SourceFile, source: Source, ctx: SourceContext): Opening {
  const { name, address, etag, split } = file;
  return {
    ...{ uri: showUri(address), name, etag, split },
    open: async (signal) => {
      const { originSha256, ...opened } = await openSource(source, ctx, signal, file);
      const origins = () => {
        const sha256 = originSha256();
        return sha256 === null ? [] : [{ name, sha256 }];
      };
      return { ...opened, origins, mark: () => null, newRows: () => 0 };
    },
  };
}

function openingOfDocuments(files: SourceFile[], source: Source, ctx: SourceContext): Opening {
  const uri = showUri(source.uri);
  const etag = files.every((file) => file.etag !== null) ? files.map((file) => file.etag).join() : null;
  return {
    ...{ uri, name: 'documents', etag, split: null },
    open: async (signal) => {
      const origins: Origin[] = [];
      return {
        ...{ uri, format: 'jsonl', etag: null, sizeBytes: null, share: () => null, rowsEstimated: () => null },
        bytes: limit(readDocuments(files, source, ctx, origins, signal), uri, ctx.bytesMax ?? SOURCE_BYTES_MAX, signal),
        ...{ converted: () => ['documents'], origins: () => origins, mark: () => null, newRows: () => 0 },
      };
    },
  };
}

async function* readDocuments(
  files: SourceFile[],
  source: Source,
  ctx: SourceContext,
  origins: Origin[],
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const reader = createDocumentReader();
  try {
    for (const file of files) yield await readOne(file);
  } finally {
    await reader[Symbol.asyncDispose]();
  }

  async function readOne({ name, address, etag }: SourceFile): Promise<Buffer> {
    const version = etag === null ? undefined : { etag };
    const raw = await openRaw({ ...source, uri: address }, ctx, signal, version);
    const { bytes, sha256 } = hashInPassing(raw.bytes);
    const document = { name, bytes: await collectDocument(bytes), encoding: source.encoding };
    const lines = await documentLines(reader, document, signal);
    const hash = sha256();
    if (hash !== null) origins.push({ name, sha256: hash });
    return Buffer.from(`${lines.join('\n')}\n`);
  }
}
