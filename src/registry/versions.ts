// The registry: immutable, numbered versions of a model and the chain of events that says which alias names which.
import { randomUUID } from 'node:crypto';
import { type ModelEvent, ModelEventSchema, type Version, VersionSchema } from '../contracts/records.ts';
import { digestOf } from '../storage/digest.ts';
import { keyNumber, keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { createNext, readJson } from '../storage/record.ts';

/**
 * Registers the next version. A run registers one version: asked again, it gets the same.
 * Nothing is registered before the record is whole, because the record is one object.
 */
export async function registerVersion(
  store: ObjectStore,
  draft: Omit<Version, 'version' | 'writeId'>,
): Promise<Version> {
  const writeId = randomUUID();
  const earlier = await listVersions(store, draft.model);
  const own = earlier.find((version) => version.run === draft.run && version.digest === draft.digest);
  if (own !== undefined) return own;
  return await createNext(
    async (number) => ({ key: keys.version(draft.model, number), value: { ...draft, version: number, writeId } }),
    store,
    (earlier.at(-1)?.version ?? 0) + 1,
  );
}

/** Oldest first. */
export async function listVersions(store: ObjectStore, model: string): Promise<Version[]> {
  const numbers = await numbersUnder(store, keys.versions(model));
  const versions = await Promise.all(numbers.map((n) => readJson(store, keys.version(model, n), VersionSchema)));
  return versions.filter((version) => version !== null);
}

export async function readVersion(store: ObjectStore, model: string, version: number): Promise<Version | null> {
  return await readJson(store, keys.version(model, version), VersionSchema);
}

/** Names of all models that have a version. */
export async function listModels(store: ObjectStore): Promise<string[]> {
  const found = (await store.list(keys.models())).flatMap((key) => /^models\/([^/]+)\/versions\//.exec(key)?.[1] ?? []);
  return [...new Set(found)].sort();
}

/** Moves an alias. Moving it to where it is already writes nothing. */
export async function moveAlias(
  store: ObjectStore,
  move: Pick<ModelEvent, 'model' | 'alias' | 'to' | 'by' | 'why'>,
): Promise<ModelEvent | null> {
  const writeId = randomUUID();
  const at = new Date().toISOString();
  const first = await listEvents(store, move.model);
  if (aliasOf(first, move.alias) === move.to) return null;
  return await createNext(
    async (number) => {
      const before = await listEvents(store, move.model);
      const last = before.at(-1);
      const value: ModelEvent = {
        ...move,
        number,
        kind: 'alias_moved',
        from: aliasOf(before, move.alias),
        at,
        previous: last === undefined ? null : digestOf(last),
        writeId,
      };
      return { key: keys.modelEvent(move.model, number), value };
    },
    store,
    (first.at(-1)?.number ?? 0) + 1,
  );
}

/** Oldest first. */
export async function listEvents(store: ObjectStore, model: string): Promise<ModelEvent[]> {
  const numbers = await numbersUnder(store, keys.modelEvents(model));
  const events = await Promise.all(numbers.map((n) => readJson(store, keys.modelEvent(model, n), ModelEventSchema)));
  return events.filter((event) => event !== null);
}

/** The version that the alias names, or null: a fold of the events. */
export function aliasOf(events: ModelEvent[], alias: string): number | null {
  return events.findLast((event) => event.alias === alias)?.to ?? null;
}

async function numbersUnder(store: ObjectStore, prefix: string): Promise<number[]> {
  const found = (await store.list(prefix)).map(keyNumber).filter((n): n is number => n !== null);
  return found.sort((a, b) => a - b);
}
