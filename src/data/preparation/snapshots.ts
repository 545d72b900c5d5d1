// Reads the snapshot that a preparation is about.
import { AnnealError } from '../../contracts/failure.ts';
import { type Snapshot, SnapshotSchema } from '../../contracts/records.ts';
import type { Spec } from '../../contracts/spec.ts';
import { keys } from '../../storage/keys.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { readJson } from '../../storage/record.ts';

/** @throws AnnealError `bad_request` when it is gone. */
export async function loadSnapshot(store: ObjectStore, digest: string): Promise<Snapshot> {
  const snapshot = await readJson(store, keys.snapshot(digest), SnapshotSchema);
  if (snapshot === null)
    throw new AnnealError('bad_request', `Snapshot ${digest} is not in the store; start the run again.`);
  return snapshot;
}

/** Which of the spec's sources a source of the snapshot came from. */
export function specIndexOf({ sources }: Snapshot, source: number): number {
  return sources[source]?.from ?? source;
}

/** How often a training row of the source stands in its split. */
export function repeatOf({ data }: Spec, snapshot: Snapshot, source: number): number {
  return data.sources[specIndexOf(snapshot, source)]?.weight?.repeat ?? 1;
}
