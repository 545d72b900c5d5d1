// What is in the sources of a spec, without storing anything: local files are hashed, others are asked for their ETag.
// It only names a run; what the run reads is frozen and verified by its ingest stage.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import type { Source } from '../contracts/data-spec.ts';
import { isDatabase, isRemote, showUri } from '../contracts/source-uri.ts';
import { mayNameImages, SIGN_BYTES } from '../data/media/named.ts';
import { codingOf, unpack, unpackedName } from '../data/source/compression.ts';
import type { SourceContext } from '../data/source/context.ts';
import { TooManyFiles } from '../data/source/file.ts';
import { findFiles, type SourceFiles } from '../data/source/files.ts';
import { identifyFiles } from '../data/source/identity.ts';
import { openRaw, placeOf } from '../data/source/raw-source.ts';
import { webVersion } from '../data/source/web-version.ts';
import { identifyContent, type SourceContent } from '../storage/run-id.ts';

export interface SourceIdentity {
  /** As `identifyContent` makes it. */
  identity: string;
  /** Set where only the address could be used, so that changed contents would go unnoticed. */
  note: string | null;
}

/** What is left out has its default. */
type NamedSource = Pick<Source, 'uri'> & Partial<Source>;
type NamedColumns = Source['columns'];

export interface IdentifyOptions {
  /** Folder that `example:` sources are read from. */
  examples: string;
  /** ETag of an `s3://bucket/key`, or null when it cannot be had. */
  s3ETag: (uri: string) => Promise<string | null>;
  /** Of patterns and prefixes in a store; absent = they are known by their address. */
  s3?: Pick<SourceContext, 'readS3' | 'listS3'>;
  signal?: AbortSignal;
}

/** How long a server may take to answer a HEAD request, ms. */
const HEAD_MS_MAX = 5_000;

/** Read at once, bytes. */
const READ_BYTES = 1024 * 1024;

/** Looked at of a file elsewhere, bytes: some hundred rows. */
const START_BYTES = 256 * 1024;

/** In the order of the sources. */
export async function identifySources(sources: NamedSource[], options: IdentifyOptions): Promise<SourceIdentity[]> {
  const identities: SourceIdentity[] = [];
  for (const source of sources) identities.push(await identify(source, options));
  return identities;
}

async function identify(source: NamedSource, options: IdentifyOptions): Promise<SourceIdentity> {
  const { uri } = source;
  if (isDatabase(uri)) {
    const why = 'is a database, whose content is known only once it was read';
    return {
      identity: identifyContent(uri, UNKNOWN),
      note: `${showUri(uri)} ${why}; the run id follows its address and query only.`,
    };
  }
  const content = await contentOf(source, options);
  const isKnown = content.sha256 !== null || content.etag !== null;
  const why = isRemote(uri) ? 'gave no ETag and no date of its last change' : 'cannot be read from here';
  const unknown = `${showUri(uri)} ${why}; the run id follows its address only.`;
  const images = `${showUri(uri)} may name images by path or address; the run id does not follow what lies there, so give the spec another \`name\` where that has changed.`;
  const note = isKnown ? (content.namesImages ? images : null) : unknown;
  return { identity: identifyContent(uri, content), note };
}

type Found = SourceContent & { namesImages: boolean };

const UNKNOWN: Found = { sha256: null, etag: null, namesImages: false };

async function contentOf(source: NamedSource, options: IdentifyOptions): Promise<Found> {
  const { uri } = source;
  if (/^https?:/i.test(uri)) {
    const etag = await versionOfWeb(uri, options.signal);
    return { ...UNKNOWN, etag, namesImages: etag !== null && (await startNamesImages(uri, source, options)) };
  }
  const found = await find(source, options).catch(absent(options.signal));
  if (found === null) return UNKNOWN;
  const { files, isMany } = found;
  if (isRemote(uri)) {
    const etag = isMany ? identifyETags(files) : await options.s3ETag(uri);
    const [first] = files;
    return { ...UNKNOWN, etag, namesImages: first ? await startNamesImages(first.address, source, options) : false };
  }
  const hashes = await hashFiles(source, files, options).catch(absent(options.signal));
  if (hashes === null) return UNKNOWN;
  const namesImages = hashes.some((file) => file.namesImages);
  return { sha256: isMany ? identifyFiles(hashes) : (hashes[0]?.sha256 ?? null), etag: null, namesImages };
}

/** Whether the first rows at an address name images: those of a source seldom begin to do so later. */
async function startNamesImages(address: string, source: NamedSource, options: IdentifyOptions): Promise<boolean> {
  const { examples, s3, signal } = options;
  const ctx = { readS3: async () => null, ...s3, examplesFolder: examples, answerTimeoutMs: HEAD_MS_MAX };
  try {
    const { bytes } = await openRaw({ uri: address, allowPrivate: true }, ctx, signal);
    return await rowsNameImages(await startOf(bytes), address, source.columns ?? null);
  } catch (error) {
    absent(signal)(error);
    return false;
  }
}

/** @param start of a file, which may be packed. */
async function rowsNameImages(start: Buffer, address: string, columns: NamedColumns): Promise<boolean> {
  const format = /\.[ct]sv$/i.test(unpackedName(address)) ? 'csv' : 'jsonl';
  const coding = codingOf(start);
  const rows = coding === null ? start : await startOf(unpack(Readable.from([start]), coding, address));
  return mayNameImages(rows, Buffer.alloc(0), format, { columns });
}

/** Up to where they end or break off: what was packed is cut in its middle here. */
async function startOf(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  let bytesRead = 0;
  try {
    for await (const piece of bytes) {
      pieces.push(piece);
      bytesRead += piece.length;
      if (bytesRead >= START_BYTES) break;
    }
  } catch (error) {
    if (pieces.length === 0) throw error;
  }
  return Buffer.concat(pieces);
}

/** The files that the ingest stage will find, by the same rules. */
async function find(source: NamedSource, { examples, s3, signal }: IdentifyOptions): Promise<SourceFiles> {
  const whole = { format: 'auto', config: null, allowPrivate: false, ...source } as Source;
  const ctx = { readS3: async () => null, ...s3, examplesFolder: examples };
  return await findFiles(whole, ctx, signal);
}

function identifyETags(files: SourceFiles['files']): string | null {
  const isKnown = files.every(({ etag }) => etag !== null);
  return isKnown ? identifyFiles(files.map(({ name, etag }) => ({ name, sha256: etag as string }))) : null;
}

interface HashedFile {
  name: string;
  sha256: string;
  namesImages: boolean;
}

async function hashFiles(
  source: NamedSource,
  files: SourceFiles['files'],
  options: IdentifyOptions,
): Promise<HashedFile[]> {
  const hashes: HashedFile[] = [];
  for (const { name, address } of files) {
    const path = placeOf(address, { examplesFolder: options.examples, readS3: async () => null })?.path ?? address;
    hashes.push({ name, ...(await hashFile(path, source.columns, options.signal)) });
  }
  return hashes;
}

function absent(signal?: AbortSignal): (error: unknown) => null {
  return (error) => {
    if (signal?.aborted || error instanceof TooManyFiles) throw error;
    return null; // the ingest stage, which has to read it, says what is wrong
  };
}

async function versionOfWeb(uri: string, signal?: AbortSignal): Promise<string | null> {
  const limit = AbortSignal.timeout(HEAD_MS_MAX);
  try {
    const response = await fetch(uri, { method: 'HEAD', signal: signal ? AbortSignal.any([signal, limit]) : limit });
    return response.ok ? webVersion((name) => response.headers.get(name)) : null;
  } catch (error) {
    if (signal?.aborted) throw error;
    return null;
  }
}

async function hashFile(path: string, columns: NamedColumns = null, signal?: AbortSignal) {
  const hash = createHash('sha256');
  const format = /\.[ct]sv$/i.test(path) ? 'csv' : 'jsonl';
  let [tail, namesImages, isFirst] = [Buffer.alloc(0), false, true];
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES, signal })) {
    hash.update(chunk as Buffer);
    if (isFirst && codingOf(chunk as Buffer) !== null)
      namesImages = await rowsNameImages((chunk as Buffer).subarray(0, START_BYTES), path, columns);
    isFirst = false;
    namesImages ||= mayNameImages(chunk as Buffer, tail, format, { columns });
    tail = Buffer.from((chunk as Buffer).subarray(-SIGN_BYTES));
  }
  return { sha256: hash.digest('hex'), namesImages };
}
