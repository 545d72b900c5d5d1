// What is in the sources of a spec, as one digest, without storing anything: local files are hashed, others are asked for
// their ETag. It only names a run; what the run reads is frozen and verified by its ingest stage.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import type { Source } from '../contracts/spec.ts';
import { digestOf } from '../storage/digest.ts';

export interface SourceIdentity {
  uri: string;
  /** `sha256:…`, `etag:…`, or `uri:…` where nothing could be learned of the contents. */
  identity: string;
  /** Set where only the address could be used, so that changed contents would go unnoticed. */
  note: string | null;
}

export interface DataDigest {
  digest: string;
  sources: SourceIdentity[];
}

export interface DigestOptions {
  /** Folder that `example:` sources are read from. */
  examples: string;
  /** ETag of an `s3://bucket/key`, or null when it cannot be had. */
  s3ETag: (uri: string) => Promise<string | null>;
  signal?: AbortSignal;
}

/** How long a server may take to answer a HEAD request, ms. */
const HEAD_MS_MAX = 5_000;

export async function digestData(sources: Pick<Source, 'uri'>[], options: DigestOptions): Promise<DataDigest> {
  const identities: SourceIdentity[] = [];
  for (const { uri } of sources) identities.push(await identify(uri, options));
  return { digest: digestOf(identities.map(({ identity }) => identity)), sources: identities };
}

async function identify(uri: string, options: DigestOptions): Promise<SourceIdentity> {
  if (/^https?:/.test(uri)) return remote(uri, await httpETag(uri, options.signal));
  if (uri.startsWith('s3:')) return remote(uri, await options.s3ETag(uri));
  const path = localPath(uri, options.examples);
  const sha256 = await hashFile(path, options.signal).catch(() => null);
  if (sha256 !== null) return { uri, identity: `sha256:${sha256}`, note: null };
  return { uri, identity: `uri:${uri}`, note: `${uri} cannot be read from here; the run id follows its address only.` };
}

function localPath(uri: string, examples: string): string {
  if (uri.startsWith('example:')) return join(examples, uri.slice('example:'.length));
  return uri.startsWith('file:') ? fileURLToPath(uri) : uri;
}

function remote(uri: string, etag: string | null): SourceIdentity {
  const shown = withoutQuery(uri);
  if (etag !== null) return { uri, identity: `etag:${shown} ${etag}`, note: null };
  return { uri, identity: `uri:${uri}`, note: `${shown} gave no ETag; the run id follows its address only.` };
}

/** A query may hold a signature that is new each time, or a secret. */
function withoutQuery(uri: string): string {
  const url = new URL(uri);
  return `${url.protocol}//${url.host}${url.pathname}`;
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
