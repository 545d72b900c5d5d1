// What is in the sources of a spec, without storing anything: local files are hashed, others are asked for their ETag.
// It only names a run; what the run reads is frozen and verified by its ingest stage.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import type { Source } from '../contracts/data-spec.ts';
import { isRemote, showUri } from '../contracts/source-uri.ts';
import { identifyContent } from '../storage/run-id.ts';

export interface SourceIdentity {
  /** As `identifyContent` makes it. */
  identity: string;
  /** Set where only the address could be used, so that changed contents would go unnoticed. */
  note: string | null;
}

export interface IdentifyOptions {
  /** Folder that `example:` sources are read from. */
  examples: string;
  /** ETag of an `s3://bucket/key`, or null when it cannot be had. */
  s3ETag: (uri: string) => Promise<string | null>;
  signal?: AbortSignal;
}

/** How long a server may take to answer a HEAD request, ms. */
const HEAD_MS_MAX = 5_000;

/** In the order of the sources. */
export async function identifySources(
  sources: Pick<Source, 'uri'>[],
  options: IdentifyOptions,
): Promise<SourceIdentity[]> {
  const identities: SourceIdentity[] = [];
  for (const { uri } of sources) identities.push(await identify(uri, options));
  return identities;
}

async function identify(uri: string, options: IdentifyOptions): Promise<SourceIdentity> {
  if (isRemote(uri)) {
    const etag = await (uri.startsWith('s3:') ? options.s3ETag(uri) : httpETag(uri, options.signal));
    const note = etag === null ? `${showUri(uri)} gave no ETag; the run id follows its address only.` : null;
    return { identity: identifyContent(uri, { sha256: null, etag }), note };
  }
  const sha256 = await hashFile(localPath(uri, options.examples), options.signal).catch(() => null);
  const note = sha256 === null ? `${uri} cannot be read from here; the run id follows its address only.` : null;
  return { identity: identifyContent(uri, { sha256, etag: null }), note };
}

function localPath(uri: string, examples: string): string {
  if (uri.startsWith('example:')) return join(examples, uri.slice('example:'.length));
  return uri.startsWith('file:') ? fileURLToPath(uri) : uri;
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
