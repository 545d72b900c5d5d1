// Makes and stores the data card of a dataset, and the profile that the next dataset of the name is compared with.
import { join } from 'node:path';
import { ProfileSchema } from '../../contracts/profile.ts';
import { type Dataset, DatasetSchema, type Snapshot, SnapshotSchema } from '../../contracts/records.ts';
import { type Accounts, type QuarantinedRow, QuarantinedRowSchema } from '../../contracts/rows.ts';
import { shardName } from '../../contracts/shards.ts';
import type { TokeniseResult } from '../../contracts/trainer-protocol.ts';
import { buildCard } from '../../data/card/card.ts';
import { collectCard } from '../../data/card/collect.ts';
import type { CardInput } from '../../data/card/input.ts';
import { storeCard } from '../../data/card/stored.ts';
import { readLines } from '../../data/line-file.ts';
import { loadProfile } from '../../data/profile/stored.ts';
import { previousDataset } from '../../data/resolve/pins.ts';
import { packingEstimate } from '../../plan/packing.ts';
import { getBlob, getFile, putBlob } from '../../storage/file-set.ts';
import { keys } from '../../storage/keys.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { readJson } from '../../storage/record.ts';
import { readSplitLengths } from '../../storage/safetensors.ts';
import type { Parts } from '../parts.ts';
import type { StageContext } from '../stage.ts';
import type { RangesToFinish } from './finish-dataset.ts';

/** Rows that the tokeniser refused and that the card may show. */
const REJECTED_MAX = 100;

/** Shards that are fetched to see how rows of their lengths pack, bytes together: about a second. */
const PACKED_BYTES_MAX = 64 * 1024 * 1024;

type FinishedRanges = Omit<RangesToFinish, 'snapshot'> & {
  digest: string;
  snapshot: Snapshot;
  accounts: Accounts;
  tokens: TokeniseResult;
};

export async function makeCard(
  { store }: Parts,
  ranges: FinishedRanges,
  { signal }: StageContext,
): Promise<Required<Pick<Dataset, 'card' | 'profile'>>> {
  const profile = await loadProfile(store, ranges.pieces.flat());
  const built = buildCard(
    collectCard({
      ...{ ...ranges, pieces: ranges.pieces.flat(), dataset: ranges.digest, profile },
      workflow: ranges.links?.run(ranges.run) ?? null,
      rejected: await firstRejected(store, ranges, signal),
      packing: await estimatePacking(store, ranges, signal),
      previous: await readPrevious(store, ranges),
    }),
  );
  return { card: await storeCard(store, built), profile: await putBlob(store, Buffer.from(JSON.stringify(profile))) };
}

/** null where reading the shards for it would take too long. */
async function estimatePacking(
  store: ObjectStore,
  { tokenised, folder }: FinishedRanges,
  signal: AbortSignal,
): Promise<CardInput['packing']> {
  const name = shardName('train', 'safetensors', 0, 1);
  const shards = tokenised.flatMap(({ files }) => files.files.filter(({ path }) => path === name));
  if (shards.reduce((sum, { size }) => sum + size, 0) > PACKED_BYTES_MAX) return null;
  const packed = join(folder, 'packed');
  for (const [i, shard] of shards.entries())
    await getFile(store, shard, join(packed, shardName('train', 'safetensors', i, shards.length)), signal);
  return packingEstimate(await readSplitLengths(packed, 'train'));
}

export async function firstRejected(
  store: ObjectStore,
  { tokenised, folder }: Pick<RangesToFinish, 'tokenised' | 'folder'>,
  signal: AbortSignal,
): Promise<QuarantinedRow[]> {
  const rejected: QuarantinedRow[] = [];
  for (const [i, { files }] of tokenised.entries()) {
    const file = files.files.find(({ path }) => path === 'quarantine.jsonl');
    if (file === undefined || file.size === 0) continue;
    const path = join(folder, `rejected-${i}.jsonl`);
    await getFile(store, file, path, signal);
    for await (const line of readLines(path)) {
      if (rejected.length === REJECTED_MAX) return rejected;
      rejected.push(QuarantinedRowSchema.parse(JSON.parse(line)));
    }
  }
  return rejected;
}

/** What the same spec made before; null also where its records are gone or older than profiles. */
async function readPrevious(store: ObjectStore, { spec, digest }: FinishedRanges): Promise<CardInput['previous']> {
  const earlier = await previousDataset(store, spec.name, digest);
  const dataset = earlier === null ? null : await readJson(store, keys.dataset(earlier), DatasetSchema);
  if (dataset?.profile === undefined) return null;
  const profile = ProfileSchema.parse(JSON.parse(Buffer.from(await getBlob(store, dataset.profile)).toString('utf8')));
  const snapshot = await readJson(store, keys.snapshot(dataset.snapshot), SnapshotSchema);
  const { train = 0, validation = 0, test = 0 } = dataset.accounts.splits;
  return {
    ...{ dataset: dataset.digest, profile, splits: { train, validation, test } },
    sources: snapshot?.sources.map(({ uri }) => uri) ?? [],
  };
}
