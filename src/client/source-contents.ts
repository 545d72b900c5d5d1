// What is in the sources of a spec, without storing anything: local files are hashed, others are asked for their ETag.
// It only names a run; what the run reads is frozen and verified by its ingest stage.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { Source } from '../contracts/data-spec.ts';
import { isDatabase, isRemote, showUri } from '../contracts/source-uri.ts';
import type { SourceContext } from '../data/source/context.ts';
import { findFiles, type SourceFiles } from '../data/source/files.ts';
import { identifyFiles } from '../data/source/identity.ts';
import { placeOf } from '../data/source/raw-source.ts';
import { identifyContent, type SourceContent } from '../storage/run-id.ts';

export interface SourceIdentity {
  /** As `identifyContent` makes it. */
  identity: string;
  /** Set where only the address could be used, so that changed contents would go unnoticed. */
  note: string | null;
}

/** What is left out has its default. */
type NamedSource = Pick<Source, 'uri'> & Partial<Source>;

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
  const why = isRemote(uri) ? 'gave no ETag' : 'cannot be read from here';
  const note = isKnown ? null : `${showUri(uri)} ${why}; the run id follows its address only.`;
  return { identity: identifyContent(uri, content), note };
}

const UNKNOWN: SourceContent = { sha256: null, etag: null };

async function contentOf(source: NamedSource, options: IdentifyOptions): Promise<SourceContent> {
  const { uri } = source;
  if (/^https?:/i.test(uri)) return { sha256: null, etag: await httpETag(uri, options.signal) };
  const found = await find(source, options).catch(absent(options.signal));
  if (found === null) return UNKNOWN;
  const { files, isMany } = found;
  if (isRemote(uri)) return { sha256: null, etag: isMany ? identifyETags(files) : await options.s3ETag(uri) };
  const hashes = await hashFiles(files, options).catch(absent(options.signal));
  if (hashes === null) return UNKNOWN;
  return { sha256: isMany ? identifyFiles(hashes) : (hashes[0]?.sha256 ?? null), etag: null };
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

async function hashFiles(
  files: SourceFiles['files'],
  options: IdentifyOptions,
): Promise<{ name: string; sha256: string }[]> {
  const hashes: { name: string; sha256: string }[] = [];
  for (const { name, address } of files) {
    const path = placeOf(address, { examplesFolder: options.examples, readS3: async () => null })?.path ?? address;
    hashes.push({ name, sha256: await hashFile(path, options.signal) });
  }
  return hashes;
}

function absent(signal?: AbortSignal): (error: unknown) => null {
  return (error) => {
    if (signal?.aborted) throw error;
    return null; // the ingest stage, which has to read it, says what is wrong
  };
}

async function httpETag(uri: string, signal?: AbortSignal): Promise<string | null> {
  const limit = AbortSignal.timeout(HEAD_MS_MAX);
  try {
    const response = await fetch(uri, { method: 'HEAD', signal: signal ? AbortSignal.any([signal, limit]) : limit });
    return response.ok ? response.headers.get('etag') : null;
  } catch (error) {
    if (signal?.aborted) throw error;
    return null;
  }
}

async function hashFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash, { signal });
  return hash.digest('hex');
}
