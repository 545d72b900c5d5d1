// Which files a source means: the one at its address, those that its pattern matches, or those in its folder, in the order of their names.
import { basename } from 'node:path';
import type { Source } from '../../contracts/data-spec.ts';
import type { Split } from '../../contracts/rows.ts';
import { showUri } from '../../contracts/source-uri.ts';
import { unpackedName } from './compression.ts';
import type { SourceContext } from './context.ts';
import { DOCUMENT_BYTES_MAX, isDocumentName } from './documents.ts';
import { isFolder, isThere, listFolder, requireInside, rootOfLinks, TooManyFiles } from './file.ts';
import { baseOf, compileGlob, isPattern } from './glob.ts';
import { readLayout } from './hugging-face.ts';
import { badSource } from './raw.ts';
import { openRaw, placeOf, schemeOf } from './raw-source.ts';
import { parseS3 } from './s3.ts';

/** A source file as it is to be opened. */
export interface SourceFile {
  address: string;
  /** Below the folder; of a single file its own name. */
  name: string;
  /** Known before it is opened: of S3. */
  etag: string | null;
  split: Split | null;
  /** Of a link: the folder that it must stay in. */
  within?: string;
}

export interface SourceFiles {
  files: SourceFile[];
  /** Whether the address stands for however many there are. */
  isMany: boolean;
  notes: string[];
}

/** Files that are looked through in a folder or under a prefix: what a list of names takes in memory, some ten megabytes. */
const LISTED_MAX = 100_000;
/** Files of rows in one source: each is frozen, cleaned and counted by itself, so many small ones in some five minutes. */
const FILES_MAX = 10_000;
/** Names of files that are passed over, told in a note. */
const NAMED_MAX = 3;

/** Tells the configurations of a data set, where it is not a document among others. */
const README = 'README.md';
const ROW_FILE = /\.(jsonl|ndjson|json|csv|tsv|parquet)$/i;

/** @throws AnnealError `bad_request` when nothing is there, or too much. */
export async function findFiles(source: Source, ctx: SourceContext, signal?: AbortSignal): Promise<SourceFiles> {
  const uri = showUri(source.uri);
  const listing = await list(source.uri, uri, ctx);
  if (listing === null) {
    const file = { address: source.uri, name: basename(uri), etag: null, split: null };
    return { files: [file], isMany: false, notes: [] };
  }
  const chosen = listing.pattern === null ? await ofFolder(listing, source, uri, ctx, signal) : byPattern(listing, uri);
  const wanted = chosen.filter(({ name }) => isWanted(name, source.format));
  const taken = new Set(wanted.map(({ name }) => name));
  const named = listing.pattern === null ? listing.files : chosen;
  const passedOver = named.filter(({ name }) => !taken.has(name) && name !== README);
  if (wanted.length === 0) throw nothingThere(uri, listing, passedOver.length);
  if (wanted.filter(({ name }) => !isDocument(name, source.format)).length > FILES_MAX)
    throw new TooManyFiles(uri, FILES_MAX);
  for (const { address, within } of wanted) if (within !== undefined) await requireInside(address, within, uri);
  return { files: wanted, isMany: true, notes: noteOf(uri, passedOver) };
}

interface Listing {
  files: Omit<SourceFile, 'split'>[];
  /** Of names; null = a folder with everything in it. */
  pattern: string | null;
}

/** null = the address is that of one file. */
async function list(address: string, uri: string, ctx: SourceContext): Promise<Listing | null> {
  const scheme = schemeOf(address);
  if (scheme === 's3') return await listPrefix(address, uri, ctx);
  const place = scheme === 'sqlite' ? null : placeOf(address, ctx);
  if (place === null) return null;
  if (await isFolder(place.path)) return await listPlace(place, place.path, null);
  if (!isPattern(place.path) || (await isThere(place.path))) return null;
  const base = baseOf(place.path);
  return await listPlace(place, base, place.path.slice(base.length));
}

async function listPlace(
  place: NonNullable<ReturnType<typeof placeOf>>,
  folder: string,
  pattern: string | null,
): Promise<Listing> {
  const found = await listFolder({ ...place, path: folder }, LISTED_MAX);
  const within = rootOfLinks(folder);
  const files = found.map(({ name, path, isLink }) => ({ name, address: path, etag: null, ...(isLink && { within }) }));
  return { files, pattern };
}

async function listPrefix(address: string, uri: string, ctx: SourceContext): Promise<Listing | null> {
  const { bucket, key } = parseS3(address, uri);
  if (!isPattern(key) && !key.endsWith('/') && key !== '') return null;
  if (ctx.listS3 === undefined)
    throw badSource(uri, 'is a prefix or a pattern, which is not read here; name an object');
  const prefix = isPattern(key) ? baseOf(key) : key;
  const objects = await ctx.listS3(bucket, prefix, LISTED_MAX);
  if (objects === null) throw badSource(uri, `is not there (bucket ${bucket}); correct the bucket`);
  if (objects.length > LISTED_MAX) throw new TooManyFiles(uri, LISTED_MAX);
  const files = objects.map(({ key: own, etag }) => ({
    name: own.slice(prefix.length),
    address: `s3://${bucket}/${own}`,
    etag,
  }));
  return {
    files: files.filter(({ name }) => !isHidden(name)),
    pattern: isPattern(key) ? key.slice(prefix.length) : null,
  };
}

function isHidden(name: string): boolean {
  return name.split('/').some((part) => part.startsWith('.') || part === '_SUCCESS');
}

function byPattern({ files, pattern }: Listing, uri: string): SourceFile[] {
  try {
    const glob = compileGlob(pattern as string);
    return files.filter(({ name }) => glob.test(name)).map((file) => ({ ...file, split: null }));
  } catch (error) {
    throw badSource(uri, `is no pattern (${(error as Error).message}); correct it`, error);
  }
}

/** A Hugging Face data set names its own files; of any other folder every file counts. */
async function ofFolder(
  { files }: Listing,
  source: Source,
  uri: string,
  ctx: SourceContext,
  signal?: AbortSignal,
): Promise<SourceFile[]> {
  const readme = files.find(({ name }) => name === README);
  const text = readme === undefined ? null : await readText(readme.address, source, ctx, signal);
  const rows = files.filter(({ name }) => ROW_FILE.test(unpackedName(name))).map(({ name }) => name);
  const layout = readLayout(rows, text, source.config ?? null, uri);
  if (layout === null) return files.map((file) => ({ ...file, split: null }));
  const byName = new Map(files.map((file) => [file.name, file]));
  return layout.map(({ name, split }) => ({ ...(byName.get(name) as Omit<SourceFile, 'split'>), split }));
}

async function readText(address: string, source: Source, ctx: SourceContext, signal?: AbortSignal): Promise<string> {
  const { bytes } = await openRaw({ ...source, uri: address }, ctx, signal);
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of bytes) {
    pieces.push(piece);
    length += piece.length;
    if (length > DOCUMENT_BYTES_MAX) break;
  }
  return Buffer.concat(pieces).toString('utf8');
}

function isWanted(name: string, format: Source['format']): boolean {
  if (format !== 'auto') return format === 'document' || !isDocumentName(name);
  return ROW_FILE.test(unpackedName(name)) || isDocumentName(name);
}

/** By its name: among many files none is opened to find out. */
export function isDocument(name: string, format: Source['format']): boolean {
  return format === 'document' || (format === 'auto' && isDocumentName(name));
}

function nothingThere(uri: string, { pattern, files }: Listing, passedOver: number) {
  if (passedOver > 0)
    return badSource(
      uri,
      `has ${passedOver} files, none of which is JSONL, JSON, CSV, Parquet or a document; set \`format\``,
    );
  const what = pattern === null ? 'is an empty folder' : `matches none of ${files.length} files`;
  return badSource(uri, `${what}; correct it, or put files there`);
}

function noteOf(uri: string, passedOver: { name: string }[]): string[] {
  if (passedOver.length === 0) return [];
  const names = passedOver.slice(0, NAMED_MAX).map(({ name }) => name);
  const more = passedOver.length > NAMED_MAX ? ', …' : '';
  const count = passedOver.length === 1 ? '1 file' : `${passedOver.length} files`;
  return [`${count} of ${uri} passed over (${names.join(', ')}${more})`];
}
