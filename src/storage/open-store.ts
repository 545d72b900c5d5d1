// Opens the store that the environment names, and proves at start-up that it honours create-if-absent.
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { Environment } from '../contracts/environment.ts';
import { AnnealError } from '../contracts/failure.ts';
import { createFileStore } from './file-store.ts';
import type { ObjectStore } from './object-store.ts';
import { s3AccessOf } from './s3-access.ts';
import { createS3Store, isRefused } from './s3-store.ts';

export function createStoreFromEnvironment(environment: Environment): ObjectStore {
  if (environment.ANNEAL_STORE === 'file') return createFileStore(join(environment.ANNEAL_STATE, 'store'));
  return createS3Store({ ...s3AccessOf(environment), bucket: environment.ANNEAL_S3_BUCKET });
}

/** Writers that race in the probe: enough that a store which ignores the condition is found at once. */
const PROBE_WRITERS = 8;

/**
 * Races writers for one key. A store that lets two win would let two trainers write into one run, so no worker starts on it.
 * @throws AnnealError `bad_request` when the store ignores the condition or refuses the credentials, `store_unavailable` when it does not answer.
 */
export async function probeStore(store: ObjectStore): Promise<void> {
  try {
    await raceWriters(store);
  } catch (error) {
    // Later a refusal is waited out, for a policy can be mended while a run waits. A worker that starts had better say it.
    if (error instanceof AnnealError && isRefused(error.cause))
      throw new AnnealError('bad_request', error.message, { cause: error });
    throw error;
  }
}

async function raceWriters(store: ObjectStore): Promise<void> {
  const key = `tmp/probe/${randomUUID()}`;
  const bodies = Array.from({ length: PROBE_WRITERS }, (_, i) => Buffer.from(JSON.stringify({ writer: i })));
  const outcomes = await Promise.all(bodies.map((body) => store.putIfAbsent(key, body)));
  const winners = outcomes.flatMap((outcome, i) => (outcome === 'created' ? [i] : []));
  const kept = await store.get(key);
  await store.delete(key);
  const winner = winners[0];
  if (
    winners.length !== 1 ||
    winner === undefined ||
    kept === null ||
    Buffer.compare(kept, bodies[winner] as Buffer) !== 0
  ) {
    throw new AnnealError(
      'bad_request',
      `The object store does not honour \`If-None-Match: *\`: ${winners.length} of ${PROBE_WRITERS} racing writers created one key. Use AWS S3, SeaweedFS 4.48 or another store that does.`,
    );
  }
}
