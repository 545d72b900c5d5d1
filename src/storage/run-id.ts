// The id of a run: a function of what decides its result, so that two programs that want the same thing meet in one run.
import { isRemote, showUri } from '../contracts/source-uri.ts';
import type { Spec } from '../contracts/spec.ts';
import { digestOf } from './digest.ts';

/** Hex digits of the digest in a run id: 48 bits, one chance in ten million that two of 7,000 runs of a name collide. */
const DIGITS = 12;

/** What is known of a source's content. */
export interface SourceContent {
  sha256: string | null;
  etag: string | null;
}

/** Content as part of a run's identity: by ETag on servers that give one, else by digest, else by address alone. */
export function identifyContent(uri: string, { sha256, etag }: SourceContent): string {
  if (isRemote(uri) && etag !== null) return `etag:${showUri(uri)} ${etag}`;
  return sha256 === null ? `uri:${uri}` : `sha256:${sha256}`;
}

/**
 * `<name>-<12 hex digits>` of spec, data and code. Where sources and evaluation suites lie is left out, because `contents` (by
 * `identifyContent`, in the order of `inputsOf`) says what is in them: the same checkout in another folder gives the same id.
 * `parent` is the digest of the version that it continues, whatever it is called by; null = none.
 */
export function runIdFor(spec: Spec, contents: string[], codeDigest: string, parent: string | null = null): string {
  const sources = spec.data.sources.map(({ uri: _uri, ...how }) => how);
  const { against: _against, ...decontaminate } = spec.data.decontaminate;
  // What may be spent and who goes first decides nothing of the result.
  const { budget: _budget, queue: _queue, ...deciding } = spec;
  const identity = {
    spec: { ...deciding, data: { ...spec.data, sources, decontaminate }, train: { ...spec.train, from: parent } },
    data: contents,
    code: codeDigest,
  };
  return `${spec.name}-${digestOf(identity).slice(0, DIGITS)}`;
}
