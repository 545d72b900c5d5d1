// Keeps groups in the split that they were in: a ledger of records, created once each, says where the datasets of a name put theirs.
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Pins, PinsSchema, type Resolution } from '../../contracts/ranges.ts';
import type { StoredFile } from '../../contracts/records.ts';
import { SPLITS, type Split } from '../../contracts/rows.ts';
import type { Spec } from '../../contracts/spec.ts';
import { digestOf } from '../../storage/digest.ts';
import { getFile } from '../../storage/file-set.ts';
import { keyNumber, keys } from '../../storage/keys.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { createNext, readJson } from '../../storage/record.ts';
import { createKeyTable, type KeyTable } from './key-table.ts';

export const GROUP_BYTES = 8;

/** Groups read at once. */
const BLOCK_GROUPS = 65_536;

function ruleOf({ groupBy, split }: Spec['data']): Pins['rule'] {
  return { groupBy, salt: split.salt, test: split.test, validation: split.validation };
}

/** Where sources lie is left out, as in the snapshot's digest. */
function inputOf({ data, train }: Spec, snapshot: string): string {
  const sources = data.sources.map(({ uri: _uri, ...source }) => source);
  return digestOf({ snapshot, data: { ...data, sources }, method: train.method });
}

/** Notes where a dataset put its groups, behind what is there. The same dataset again is no news. */
export async function recordPins(
  store: ObjectStore,
  { spec, snapshot, dataset }: { spec: Spec; snapshot: string; dataset: string },
  { moved, heldOut }: Pick<Resolution, 'moved' | 'heldOut'>,
): Promise<void> {
  const there = await listPins(store, spec.name);
  const last = there.at(-1);
  if (last !== undefined && (await readJson(store, last, PinsSchema))?.dataset === dataset) return;
  const value: Pins = { dataset, input: inputOf(spec, snapshot), rule: ruleOf(spec.data), moved, heldOut };
  const build = async (number: number) => ({ key: keys.pinned(spec.name, number), value });
  await createNext(build, store, 1 + (last === undefined ? 0 : (keyNumber(last) ?? 0)));
}

/** The newest dataset of the name that is another one. */
export async function previousDataset(store: ObjectStore, name: string, dataset: string): Promise<string | null> {
  for (const key of (await listPins(store, name)).reverse()) {
    const pins = await readJson(store, key, PinsSchema);
    if (pins !== null && pins.dataset !== dataset) return pins.dataset;
  }
  return null;
}

async function listPins(store: ObjectStore, name: string): Promise<string[]> {
  return (await store.list(keys.pins(name))).sort();
}

/** The records that put a group elsewhere than today's rule does: of the same rule only those that moved some. Oldest first. */
export async function pinsFor(store: ObjectStore, spec: Spec, snapshot: string): Promise<string[]> {
  const rule = digestOf(ruleOf(spec.data));
  const input = inputOf(spec, snapshot);
  const found: string[] = [];
  for (const key of await listPins(store, spec.name)) {
    const pins = await readJson(store, key, PinsSchema);
    if (pins === null || pins.input === input) continue;
    if (digestOf(pins.rule) !== rule || Object.keys(pins.moved).length > 0) found.push(key);
  }
  return found;
}

/** The split of each pinned group, as a byte: its place in `SPLITS`. Once in test is always in test. */
export async function loadPins(
  store: ObjectStore,
  records: string[],
  { data }: Spec,
  state: { folder: string; signal: AbortSignal },
): Promise<KeyTable> {
  const table = createKeyTable(GROUP_BYTES, 0);
  const rule = digestOf(ruleOf(data));
  for (const key of records) {
    const pins = await readJson(store, key, PinsSchema);
    if (pins === null) continue;
    for (const [group, split] of Object.entries(pins.moved)) pin(table, Buffer.from(group, 'hex'), 0, split);
    // With the same rule they fall where they fell.
    if (digestOf(pins.rule) === rule) continue;
    for (const split of ['validation', 'test'] as const)
      await readGroups(store, pins.heldOut[split], state, (block, at) => pin(table, block, at, split));
  }
  return table;
}

/** Held out wins over trained on, and test over validation. */
function pin(table: KeyTable, bytes: Buffer, at: number, split: Split): void {
  if (table.get(bytes, at) < SPLITS.indexOf(split)) table.set(bytes, at, SPLITS.indexOf(split));
}

async function readGroups(
  store: ObjectStore,
  stored: StoredFile,
  { folder, signal }: { folder: string; signal: AbortSignal },
  take: (block: Buffer, at: number) => void,
): Promise<void> {
  if (stored.size === 0) return;
  const place = await mkdtemp(join(folder, 'pins-'));
  let file: FileHandle | null = null;
  try {
    await getFile(store, stored, join(place, stored.path), signal);
    file = await open(join(place, stored.path), 'r');
    const block = Buffer.allocUnsafeSlow(BLOCK_GROUPS * GROUP_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(block, 0, block.length, null);
      if (bytesRead === 0) break;
      for (let at = 0; at < bytesRead; at += GROUP_BYTES) take(block, at);
    }
  } finally {
    await file?.close();
    await rm(place, { recursive: true, force: true });
  }
}
