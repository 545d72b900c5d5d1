// JSON records in the store: created once, checked when read.
import { z } from 'zod';
import { AnnealError } from '../contracts/failure.ts';
import { canonicalJson } from './digest.ts';
import type { ObjectStore, PutOutcome } from './object-store.ts';

export async function createJson(store: ObjectStore, key: string, value: unknown): Promise<PutOutcome> {
  return await store.putIfAbsent(key, Buffer.from(canonicalJson(value)));
}

/** The record, or null when there is none. @throws AnnealError `checkpoint_corrupt` when it is not what the schema says. */
export async function readJson<S extends z.ZodType>(
  store: ObjectStore,
  key: string,
  schema: S,
): Promise<z.output<S> | null> {
  const bytes = await store.get(key);
  if (bytes === null) return null;
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    throw new AnnealError('checkpoint_corrupt', `Record ${key} is not readable (${why}); restore it from a replica.`, {
      cause: error,
    });
  }
}

/**
 * Creates the next number of a series, such as a model's versions. `build` gets the number and is asked again after a lost race.
 * `seriesMax` bounds the tries.
 */
export async function createNext<T>(
  build: (number: number) => Promise<{ key: string; value: T }>,
  store: ObjectStore,
  first: number,
  seriesMax = 1_000_000,
): Promise<T> {
  for (let number = first; number < seriesMax; number++) {
    const { key, value } = await build(number);
    if ((await createJson(store, key, value)) !== 'exists') return value;
  }
  throw new AnnealError('trainer_bug', `A series has more than ${seriesMax} records; archive it.`);
}
