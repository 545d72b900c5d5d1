// The ETag of an `s3://bucket/key` source, where the store can be asked, and those of all objects under a prefix.
import type { Environment } from '../contracts/environment.ts';
import type { SourceContext } from '../data/source/context.ts';
import { s3AccessOf } from '../storage/s3-access.ts';

/** How long the store may take to answer, ms. */
const HEAD_MS_MAX = 5_000;

export function createS3ETagReader(environment: Environment): (uri: string) => Promise<string | null> {
  return async (uri) => {
    const [, bucket, key] = /^s3:\/\/([^/]+)\/(.+)$/.exec(uri) ?? [];
    if (!bucket || !key) return null;
    const { HeadObjectCommand } = await import('@aws-sdk/client-s3');
    const { createS3Client } = await import('../storage/s3-store.ts');
    const client = createS3Client(s3AccessOf(environment));
    try {
      const options = { abortSignal: AbortSignal.timeout(HEAD_MS_MAX) };
      return (await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), options)).ETag ?? null;
    } catch {
      return null; // the ingest stage, which has to read it, says what is wrong
    } finally {
      client.destroy();
    }
  };
}

export async function createS3Listing(environment: Environment): Promise<Pick<SourceContext, 'readS3' | 'listS3'>> {
  const { createS3Lister, createS3Reader } = await import('../storage/s3-store.ts');
  const access = s3AccessOf(environment);
  return { readS3: createS3Reader(access), listS3: createS3Lister(access) };
}
