// Followed sources: numbered records of what each run took of a source, so that the next run of the same spec name knows what is new.
// A run that is tried again takes the same again. What a retraining took that has failed is given back: the next one takes it with what is
// newer.
import type { Source } from '../../contracts/data-spec.ts';
import { AnnealError } from '../../contracts/failure.ts';
import type { Ingested, Mark, Taken } from '../../contracts/records.ts';
import { TakenSchema } from '../../contracts/records.ts';
import { showUri } from '../../contracts/source-uri.ts';
import { canonicalJson, digestOf } from '../../storage/digest.ts';
import { keyNumber, keys } from '../../storage/keys.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { createJson, readJson } from '../../storage/record.ts';

export interface Follower {
  /** The spec's name, whose runs share a mark. */
  name: string;
  run: string;
}

/** Records looked through for one of the same run: others may have come since it was first tried. */
const LOOK_BACK = 20;

/** @param read reads what is to be taken, given up to where it was taken before. */
export async function takeFollowed(
  store: ObjectStore,
  { name, run }: Follower,
  source: Source,
  read: (after: Mark | null) => Promise<{ ingested: Ingested; mark: Mark }>,
): Promise<Ingested> {
  const { uri } = source;
  const identity = identityOf(source);
  const numbers = await listTakings(store, name, identity);
  const last = await readTaken(store, name, identity, numbers[0]);
  const own = await findOwn(store, name, identity, numbers.slice(0, LOOK_BACK), run);
  if (own !== null) return own.ingested;
  const { ingested, mark } = await read(last?.mark ?? null);
  if (last !== null && canonicalJson(last.mark) === canonicalJson(mark)) return ingested;
  const number = (numbers[0] ?? 0) + 1;
  const taken: Taken = { number, run, source: showUri(uri), mark, ingested };
  const outcome = await createJson(store, keys.taking(name, identity, number), taken);
  if (outcome === 'exists') throw takenByAnother(showUri(uri), name);
  return ingested;
}

/**
 * What the run took, which has come to nothing, is new again for the next one; idempotent.
 * @returns false when another run has taken what came after it: what it took then stays with it.
 */
export async function giveBackFollowed(store: ObjectStore, { name, run }: Follower, source: Source): Promise<boolean> {
  const identity = identityOf(source);
  const numbers = await listTakings(store, name, identity);
  const [last, before] = await Promise.all([0, 1].map((i) => readTaken(store, name, identity, numbers[i])));
  if (last?.run === givenBackBy(run)) return true;
  if (last?.run !== run) return false;
  const given: Taken = {
    ...{ number: last.number + 1, run: givenBackBy(run), source: last.source },
    mark: before?.mark ?? { files: {}, watermark: null },
    ingested: { entries: [], content: { sha256: digestOf([]), etag: null }, notes: [] },
  };
  return (await createJson(store, keys.taking(name, identity, given.number), given)) !== 'exists';
}

function givenBackBy(run: string): string {
  return `${run}, given back`;
}

function identityOf({ uri, query, table, format, config }: Source): string {
  return digestOf({ uri: showUri(uri), query, table, format, config }).slice(0, 16);
}

/** The newest first. */
async function listTakings(store: ObjectStore, name: string, identity: string): Promise<number[]> {
  const found = await store.list(keys.takings(name, identity));
  return found.map((key) => keyNumber(key) ?? 0).sort((a, b) => b - a);
}

async function findOwn(
  store: ObjectStore,
  name: string,
  identity: string,
  numbers: number[],
  run: string,
): Promise<Taken | null> {
  for (const number of numbers) {
    const taken = await readTaken(store, name, identity, number);
    if (taken?.run === run) return taken;
  }
  return null;
}

async function readTaken(
  store: ObjectStore,
  name: string,
  identity: string,
  number: number | undefined,
): Promise<Taken | null> {
  return number === undefined ? null : await readJson(store, keys.taking(name, identity, number), TakenSchema);
}

function takenByAnother(uri: string, name: string): AnnealError {
  return new AnnealError(
    'source_unavailable',
    `Source ${uri} was taken by another run of ${name} at the same time; try again, to take what is new since then.`,
  );
}
