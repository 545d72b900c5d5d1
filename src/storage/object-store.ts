// The one road to the object store. Two drivers stand behind it, `s3` and `file`, and one conformance suite holds both.
// Everything that must be atomic is built on `putIfAbsent`; there is no read-modify-write, no lease and no multipart upload.

/** Largest object that is put in one piece, bytes: multipart commits are not atomic on every store, so there are none. */
export const PART_BYTES_MAX = 32 * 1024 * 1024;

export type PutOutcome = 'created' | 'mine' | 'exists';

export interface ObjectStore {
  /**
   * Creates the object if the key is free. Exactly one of any number of racing writers gets `created`.
   * `mine`: the key holds these very bytes already, which is also how a retried write whose answer was lost ends.
   * `exists`: the key holds other bytes; nothing was written. Bodies that must not be taken for another's carry a `writeId`.
   * @throws AnnealError `store_unavailable` after bounded retries.
   */
  putIfAbsent(key: string, body: Uint8Array): Promise<PutOutcome>;
  /** Writes or overwrites. Only for content-addressed keys and hints. A store behind a wire verifies `sha256` (hex) on receipt when given. */
  put(key: string, body: Uint8Array, sha256?: string): Promise<void>;
  /** The whole object, or null when there is none: in the memory given where there is room, otherwise in memory of its own. */
  get(key: string, into?: Uint8Array): Promise<Uint8Array | null>;
  /** Size in bytes, or null when there is none. */
  head(key: string): Promise<{ sizeBytes: number } | null>;
  /** Every key under the prefix; order is not promised. Not for prefixes with more than 100,000 keys. */
  list(prefix: string): Promise<string[]>;
  /** Idempotent: a missing key is no error. */
  delete(key: string): Promise<void>;
  close(): Promise<void>;
}
