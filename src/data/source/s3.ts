// Sources in an S3 store.
import { badSource, type RawSource } from './raw.ts';

/** The object, or null when bucket or key are not there. @throws AnnealError when the store cannot be asked. */
export type ReadS3 = (bucket: string, key: string, signal?: AbortSignal) => Promise<RawSource | null>;

export async function openS3(address: string, uri: string, readS3: ReadS3, signal?: AbortSignal): Promise<RawSource> {
  const match = /^s3:\/\/([^/]+)\/(.+)$/i.exec(address);
  if (match === null) throw badSource(uri, 'must be s3://bucket/key; add what is missing');
  const [, bucket, key] = match as unknown as [string, string, string];
  const object = await readS3(bucket, key, signal);
  if (object === null)
    throw badSource(uri, `is not there (bucket ${bucket}, key ${key}); correct the bucket or the key`);
  return object;
}
