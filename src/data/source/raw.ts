// What opening a source gives, whatever kind it is, and the error for an address that is wrong.
import { AnnealError } from '../../contracts/failure.ts';

export interface RawSource {
  bytes: AsyncIterable<Uint8Array>;
  etag: string | null;
  /** The name of what is read, in a store that keeps versions. */
  versionId?: string | null;
  sizeBytes: number | null;
}

export function badSource(uri: string, what: string, cause?: unknown): AnnealError {
  return new AnnealError('bad_request', `Source ${uri} ${what}.`, cause === undefined ? {} : { cause });
}
