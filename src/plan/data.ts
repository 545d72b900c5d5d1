// What a plan knows of the data: rows and tokens of each split, by the very code of the stages ingest and preprocess, without a stack.
import { join } from 'node:path';
import type { Dataset, Snapshot } from '../contracts/records.ts';
import type { Accounts } from '../contracts/rows.ts';
import type { Spec } from '../contracts/spec.ts';
import type { TokeniseResult } from '../contracts/trainer-protocol.ts';
import { takeSnapshot } from '../data/snapshot.ts';
import type { SourceContext } from '../data/sources.ts';
import { getFolder } from '../storage/file-set.ts';
import { createFileStore } from '../storage/file-store.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { packedRows } from './packing.ts';
import { readIntegers } from './safetensors.ts';
import { sampleSources } from './sample.ts';

export interface PlannedData {
  /** As the stage preprocess will count them, of the sample. */
  accounts: Accounts;
  splits: TokeniseResult['splits'];
  /** All data ÷ the sample; 1 = everything was read; null = unknown. */
  factor: number | null;
  /** Rows of an epoch: fewer than those of the split when short ones share one. */
  rowsPerEpoch: number;
  /** The shard of the training split. */
  train: string;
}

export interface PlannedDataOptions {
  spec: Spec;
  sources: SourceContext;
  /** Working folder; does not outlive the plan. */
  folder: string;
  /** The stage preprocess. */
  makeDataset: (snapshot: Snapshot, store: ObjectStore) => Promise<Dataset>;
  signal?: AbortSignal;
  /** Instead of the sample's size. */
  bytesMax?: number;
}

/** @throws AnnealError as the stages ingest and preprocess do. */
export async function readPlannedData(options: PlannedDataOptions): Promise<PlannedData> {
  const { spec, folder, signal } = options;
  const store = createFileStore(join(folder, 'store'));
  const sample = await sampleSources(
    spec.data.sources,
    options.sources,
    join(folder, 'sources'),
    signal,
    options.bytesMax,
  );
  const snapshot = await takeSnapshot(store, sample.sources, options.sources, () => undefined, signal);
  const { files, accounts, tokens } = await options.makeDataset(snapshot, store);
  const shards = files.files.filter(({ path }) => path === 'train.safetensors');
  await getFolder(store, { digest: files.digest, files: shards }, join(folder, 'dataset'), signal);
  const train = join(folder, 'dataset', 'train.safetensors');
  const rows = tokens.splits.train?.rows ?? 0;
  const rowsPerEpoch = spec.train.packing ? packedRows(await readLengths(train)) : rows;
  return { accounts, splits: tokens.splits, factor: sample.factor, rowsPerEpoch, train };
}

/** Packing is for chats, whose shards have one row after the other. */
async function readLengths(shard: string): Promise<number[]> {
  const offsets = await readIntegers(shard, 'offsets');
  return offsets.slice(1).map((end, i) => end - (offsets[i] as number));
}
