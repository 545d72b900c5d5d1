// The `s3` driver: any store that speaks S3 and honours `If-None-Match: *` on PutObject.
// One SHA-256 serves as key, as `ChecksumSHA256` and as payload hash, so that a part is hashed once and verified by the server.
import http from 'node:http';
import https from 'node:https';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { AnnealError } from '../contracts/failure.ts';
import { sha256Hex } from './digest.ts';
import type { ObjectStore, PutOutcome } from './object-store.ts';
import { changedSource, resumed } from './resumed.ts';
import type { S3Access } from './s3-access.ts';

export interface S3Config extends S3Access {
  bucket: string;
}

/** One request may take so long, ms: contended creates on SeaweedFS were seen to wait 8 s. */
const SOCKET_TIMEOUT_MS = 30_000;
const CONNECT_TIMEOUT_MS = 3_000;
/** Tries of one request inside a call; callers that can wait longer try the call again. */
const ATTEMPTS_MAX = 4;

export function createS3Client(config: S3Access): S3Client {
  return new S3Client({
    ...(config.endpoint ? { endpoint: config.endpoint, forcePathStyle: true } : {}),
    region: config.region,
    ...(config.accessKeyId && config.secretAccessKey
      ? { credentials: { accessKeyId: config.accessKeyId, secretAccessKey: config.secretAccessKey } }
      : {}),
    maxAttempts: ATTEMPTS_MAX,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: new NodeHttpHandler({
      connectionTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: SOCKET_TIMEOUT_MS,
      httpAgent: new http.Agent({ keepAlive: true, maxSockets: 64 }),
      httpsAgent: new https.Agent({ keepAlive: true, maxSockets: 64 }),
    }),
  });
}

export function createS3Store(config: S3Config): ObjectStore {
  const client = createS3Client(config);
  const Bucket = config.bucket;
  reuseBodyDigest(client);

  async function putOnce(key: string, body: Uint8Array, sha256: string, onlyIfAbsent: boolean): Promise<void> {
    const input = {
      Bucket,
      Key: key,
      Body: body,
      ChecksumSHA256: Buffer.from(sha256, 'hex').toString('base64'),
      ...(onlyIfAbsent ? { IfNoneMatch: '*' } : {}),
      [BODY_DIGEST]: sha256,
    };
    await client.send(new PutObjectCommand(input));
  }

  async function get(key: string, into?: Uint8Array): Promise<Uint8Array | null> {
    try {
      const { Body, ContentLength: size } = await client.send(new GetObjectCommand({ Bucket, Key: key }));
      if (Body === undefined || size === undefined) return (await Body?.transformToByteArray()) ?? new Uint8Array();
      const memory = into !== undefined && into.length >= size ? into : Buffer.allocUnsafeSlow(size);
      return await readWhole(Body as unknown as AsyncIterable<Uint8Array>, memory.subarray(0, size));
    } catch (error) {
      if (isMissing(error)) return null;
      throw storeError('read', key, error);
    }
  }

  return {
    async putIfAbsent(key, body): Promise<PutOutcome> {
      const sha256 = sha256Hex(body);
      for (let conflicts = 0; ; conflicts++) {
        try {
          await putOnce(key, body, sha256, true);
          return 'created';
        } catch (error) {
          const status = statusOf(error);
          if (status === 409 && conflicts < ATTEMPTS_MAX) continue; // another writer is in the middle of it
          if (status !== 412) throw storeError('create', key, error);
          const there = await get(key);
          if (there === null) continue; // deleted in between
          return Buffer.compare(there, body) === 0 ? 'mine' : 'exists';
        }
      }
    },

    async put(key, body, sha256) {
      try {
        await putOnce(key, body, sha256 ?? sha256Hex(body), false);
      } catch (error) {
        throw storeError('write', key, error);
      }
    },

    get,

    async head(key) {
      try {
        const { ContentLength } = await client.send(new HeadObjectCommand({ Bucket, Key: key }));
        return { sizeBytes: ContentLength ?? 0 };
      } catch (error) {
        if (isMissing(error)) return null;
        throw storeError('look up', key, error);
      }
    },

    async list(prefix) {
      const found: string[] = [];
      let ContinuationToken: string | undefined;
      try {
        do {
          const page = await client.send(new ListObjectsV2Command({ Bucket, Prefix: prefix, ContinuationToken }));
          for (const { Key } of page.Contents ?? []) if (Key !== undefined) found.push(Key);
          ContinuationToken = page.NextContinuationToken;
        } while (ContinuationToken !== undefined);
      } catch (error) {
        throw storeError('list', prefix, error);
      }
      return found.sort();
    },

    async delete(key) {
      try {
        await client.send(new DeleteObjectCommand({ Bucket, Key: key }));
      } catch (error) {
        throw storeError('delete', key, error);
      }
    },

    async close() {
      client.destroy();
    },
  };
}

/** Fills the memory. @throws Error when the answer has fewer bytes than it said, or more. */
async function readWhole(body: AsyncIterable<Uint8Array>, memory: Uint8Array): Promise<Uint8Array> {
  let length = 0;
  for await (const piece of body) {
    if (length + piece.length <= memory.length) memory.set(piece, length);
    length += piece.length;
  }
  if (length !== memory.length) throw new Error(`${length} of ${memory.length} bytes came`);
  return memory;
}

const BODY_DIGEST = Symbol('bodyDigest');

/** Hands the digest that the caller has computed to the signer, which would otherwise hash the body again. */
function reuseBodyDigest(client: S3Client): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const digest = (args.input as { [BODY_DIGEST]?: string })[BODY_DIGEST];
      if (digest !== undefined) {
        (args.request as { headers: Record<string, string> }).headers['x-amz-content-sha256'] = digest;
      }
      return next(args);
    },
    { step: 'build', priority: 'low', name: 'reuseBodyDigest' },
  );
}

function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}

function isMissing(error: unknown): boolean {
  return statusOf(error) === 404 && (error as Error).name !== 'NoSuchBucket';
}

/** Whether a store that answers says no to whoever asks, rather than not now. */
export function isRefused(error: unknown): boolean {
  return [401, 403].includes(statusOf(error) ?? 0);
}

function storeError(verb: string, key: string, error: unknown): AnnealError {
  const why = error instanceof Error ? `${error.name}${error.message ? `: ${error.message}` : ''}` : String(error);
  return new AnnealError(
    'store_unavailable',
    `The object store could not ${verb} ${key} (${why}); ${remedyFor(error)}.`,
    {
      cause: error,
    },
  );
}

function remedyFor(error: unknown): string {
  const { name } = error as Error;
  if (name === 'CredentialsProviderError') return 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY';
  if (name === 'NoSuchBucket') return 'create the bucket or name another';
  if (isRefused(error)) return 'check the access key, the secret and the bucket policy';
  return 'check that it runs, can be reached and has space';
}

/**
 * Reads objects that users name as sources: `null` when bucket or key are not there. What is read is one version, the given one if any,
 * also where the connection breaks off meanwhile; in a bucket that keeps versions even where the object is replaced.
 */
export function createS3Reader(config: S3Access) {
  const client = createS3Client(config);
  return async (bucket: string, key: string, signal?: AbortSignal, version?: { etag: string }) => {
    const uri = `s3://${bucket}/${key}`;
    const read = async (etag: string | undefined, from: number, versionId?: string) => {
      const command = new GetObjectCommand({
        ...{ Bucket: bucket, Key: key, IfMatch: etag, VersionId: versionId },
        ...(from > 0 && { Range: `bytes=${from}-` }),
      });
      try {
        return await client.send(command, signal ? { abortSignal: signal } : {});
      } catch (error) {
        if (statusOf(error) === 412 || (etag !== undefined && statusOf(error) === 404)) throw changedSource(uri, error);
        if (statusOf(error) === 404) return null;
        throw isRefused(error) ? refusedSource(uri, error) : storeError('read', uri, error);
      }
    };
    const answer = await read(version?.etag, 0);
    if (answer === null) return null;
    const { ETag: etag, VersionId } = answer;
    // Where versions were never kept, or are kept no longer, there is one without a name.
    const versionId = VersionId === 'null' ? undefined : VersionId;
    const bodyOf = (part: typeof answer | null) => readBody(part?.Body as unknown as AsyncIterable<Uint8Array>, uri);
    const bytes = resumed(bodyOf(answer), {
      reopen: async (from) => bodyOf(await read(etag, from, versionId)),
      isBreak: (error) => etag !== undefined && error instanceof AnnealError && error.kind === 'store_unavailable',
      signal,
    });
    return { bytes, etag: etag ?? null, versionId: versionId ?? null, sizeBytes: answer.ContentLength ?? null };
  };
}

/** Lists objects that users name by a prefix, sorted by the bytes of their keys: `null` when the bucket is not there. */
export function createS3Lister(config: S3Access) {
  const client = createS3Client(config);
  return async (bucket: string, prefix: string, objectsMax: number) => {
    const found: { key: string; etag: string; sizeBytes: number }[] = [];
    let ContinuationToken: string | undefined;
    try {
      do {
        const page = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken }));
        for (const { Key, ETag, Size } of page.Contents ?? [])
          if (Key !== undefined && !Key.endsWith('/')) found.push({ key: Key, etag: ETag ?? '', sizeBytes: Size ?? 0 });
        ContinuationToken = page.NextContinuationToken;
      } while (ContinuationToken !== undefined && found.length <= objectsMax);
    } catch (error) {
      if (statusOf(error) === 404) return null;
      const uri = `s3://${bucket}/${prefix}`;
      throw isRefused(error) ? refusedSource(uri, error) : storeError('list', uri, error);
    }
    return found.sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
  };
}

/** A connection that breaks off is the store's trouble, not the reader's. */
async function* readBody(body: AsyncIterable<Uint8Array>, uri: string): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    throw storeError('read', uri, error);
  }
}

/** Asking again does not give rights. */
function refusedSource(uri: string, error: unknown): AnnealError {
  return new AnnealError(
    'bad_request',
    `Source ${uri} may not be read with the data worker's access key (${(error as Error).name}); give it the right to, or correct the address.`,
    { cause: error },
  );
}
