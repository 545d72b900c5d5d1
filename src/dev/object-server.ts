// The embedded S3: SeaweedFS (`weed mini`) on loopback, with generated credentials, and the proof that it serves.
// It survives the death of any process; it does not fsync, so a power cut may cost the newest objects.
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DeleteObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { AnnealError } from '../contracts/failure.ts';
import type { PartPlan } from './part-plan.ts';

export interface StoreCredentials {
  accessKeyId: string;
  secretAccessKey: string;
}

export interface StoreAccess {
  endpoint: string;
  bucket: string;
  credentials: StoreCredentials;
}

/** Go's heap grows to 1 GB after one large upload and stays there; with this to 260 MB. With 256 MiB a byte written costs twice the CPU. */
const MEMORY_LIMIT = '384MiB';

/** After an unclean stop the first call may wait 4 to 6 s for the server's own recovery. */
const HEALTH_TIMEOUT_MS = 10_000;

export interface ObjectServerOptions {
  binary: string;
  /** Port of S3; eight more lie above it (`ports.ts`). */
  port: number;
  folder: string;
  access: StoreAccess;
}

export function planObjectServer({ binary, port, folder, access }: ObjectServerOptions): PartPlan {
  const dataFolder = join(folder, 'data');
  const logFolder = join(folder, 'log');
  return {
    name: 'store',
    command: binary,
    args: [
      ...[`-logdir=${logFolder}`, 'mini', `-dir=${dataFolder}`, `-bucket=${access.bucket}`],
      // Without `-disableHttp` anyone on the machine may write through the inner HTTP ports, past all credentials.
      ...['-ip=127.0.0.1', '-ip.bind=127.0.0.1', '-disableHttp', '-master.telemetry=false'],
      ...['-webdav=false', '-admin.ui=false', '-s3.iam=false', '-s3.allowDeleteBucketNotEmpty=false'],
      ...['-s3.port.iceberg=0', '-s3.port.lance=0', '-master.volumeSizeLimitMB=256'],
      ...[`-s3.port=${port}`, `-master.port=${port + 1}`, `-volume.port=${port + 2}`, `-filer.port=${port + 3}`],
      // The admin's gRPC port is not set: the built-in worker dials admin + 10,000 whatever it is told.
      ...[`-admin.port=${port + 4}`, `-s3.port.grpc=${port + 5}`, `-master.port.grpc=${port + 6}`],
      ...[`-volume.port.grpc=${port + 7}`, `-filer.port.grpc=${port + 8}`],
    ],
    environment: {
      GOMEMLIMIT: MEMORY_LIMIT,
      AWS_ACCESS_KEY_ID: access.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: access.credentials.secretAccessKey,
    },
    prepare: () => {
      for (const path of [dataFolder, logFolder]) mkdirSync(path, { recursive: true });
      // The server remembers flags of earlier starts here and would mix them with ours.
      rmSync(join(dataFolder, 'mini.options'), { force: true });
    },
    remedy: `where its data are damaged or of another version, move ${folder} away (it holds snapshots, checkpoints and models)`,
    stopGraceMs: 3_000,
    readyTimeoutMs: 60_000,
    isReady: () => acceptsConditionalPut(access),
  };
}

/** Made once per state folder: objects of earlier starts stay readable. */
export function readOrCreateCredentials(file: string): StoreCredentials {
  if (existsSync(file)) return readCredentials(file);
  const created = { accessKeyId: randomBytes(10).toString('hex'), secretAccessKey: randomBytes(20).toString('hex') };
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(created)}\n`, { mode: 0o600 });
  return created;
}

function readCredentials(file: string): StoreCredentials {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as StoreCredentials;
  } catch (error) {
    throw new AnnealError(
      'bad_request',
      `The store's credentials in ${file} cannot be read (${(error as Error).message}); restore the file, or delete it to get new ones.`,
      { cause: error },
    );
  }
}

/** Whether a new object can be created if absent, which is what the product lives on; an open port says less. */
export async function acceptsConditionalPut(access: StoreAccess): Promise<boolean> {
  const client = createHealthClient(access);
  const target = { Bucket: access.bucket, Key: `health/${randomUUID()}` };
  try {
    await client.send(new PutObjectCommand({ ...target, Body: 'ready', IfNoneMatch: '*' }));
    await client.send(new DeleteObjectCommand(target));
    return true;
  } catch {
    return false;
  } finally {
    client.destroy();
  }
}

function createHealthClient(access: StoreAccess): S3Client {
  return new S3Client({
    endpoint: access.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: access.credentials,
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: new NodeHttpHandler({ connectionTimeout: 1_000, socketTimeout: HEALTH_TIMEOUT_MS }),
  });
}
