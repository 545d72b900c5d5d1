// Sources in an S3 store.
import { badSource, type RawSource } from './raw.ts';

export interface S3Object {
  key: string;
  etag: string;
  sizeBytes: number;
}

export interface S3Version {
  /** Refuses any other content. */
  etag: string;
}

/**
 * The object, or null when bucket or key are not there. What is read is one version, also where the connection breaks off meanwhile.
 * @throws AnnealError when the store cannot be asked, or when the object has another ETag than `version`.
 */
export type ReadS3 = (
  bucket: string,
  key: string,
  signal?: AbortSignal,
  version?: S3Version,
) => Promise<RawSource | null>;

/** Every object whose key begins with the prefix, sorted by the bytes of the key; null when the bucket is not there. */
export type ListS3 = (bucket: string, prefix: string, objectsMax: number) => Promise<S3Object[] | null>;

export function parseS3(address: string, uri: string): { bucket: string; key: string } {
  const match = /^s3:\/\/([^/]+)\/(.*)$/i.exec(address);
  if (match === null) throw badSource(uri, 'must be s3://bucket/key; add what is missing');
  return { bucket: match[1] as string, key: match[2] as string };
}

export async function openS3(
  address: string,
  uri: string,
  readS3: ReadS3,
  signal?: AbortSignal,
  version?: S3Version,
): Promise<RawSource> {
  const { bucket, key } = parseS3(address, uri);
  if (key === '') throw badSource(uri, 'must be s3://bucket/key; add what is missing');
  const object = await readS3(bucket, key, signal, version);
  if (object === null)
    throw badSource(uri, `is not there (bucket ${bucket}, key ${key}); correct the bucket or the key`);
  return object;
}
