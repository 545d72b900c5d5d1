// The ETag of an `s3://bucket/key` source, where the store can be asked, and those of all objects under a prefix.
import type { Environment } from '../contracts/environment.ts';
import type { SourceContext } from '../data/source/context.ts';

/** How long the store may take to answer, ms. */
const HEAD_MS_MAX = 5_000;

export function createS3ETagReader(environment: Environment): (uri: string) => Promise<string | null> {
  return async (uri) => {
    const [, bucket, key] = /^s3:\/\/([^/]+)\/(.+)$/.exec(uri) ?? [];
    if (!bucket || !key) return null;
    const { HeadObjectCommand, S3Client } = await import('@aws-sdk/client-s3');
    const client = new S3Client(clientOptions(environment));
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
  const store = {
    endpoint: environment.ANNEAL_S3_ENDPOINT,
    region: environment.AWS_REGION,
    accessKeyId: environment.AWS_ACCESS_KEY_ID,
    secretAccessKey: environment.AWS_SECRET_ACCESS_KEY,
  };
  return { readS3: createS3Reader(store), listS3: createS3Lister(store) };
}

function clientOptions(environment: Environment) {
  const {
    ANNEAL_S3_ENDPOINT: endpoint,
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
  } = environment;
  return {
    region: environment.AWS_REGION,
    maxAttempts: 2,
    ...(endpoint && { endpoint, forcePathStyle: true }),
    ...(accessKeyId && secretAccessKey && { credentials: { accessKeyId, secretAccessKey } }),
  };
}
