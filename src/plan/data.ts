// What a plan knows of the data: rows and tokens of each split, by the very code of the stages ingest and preprocess, without a stack.
import { join } from 'node:path';
import type { Dataset } from '../contracts/records.ts';
import type { Accounts } from '../contracts/rows.ts';
import { isShardOf } from '../contracts/shards.ts';
import type { Spec } from '../contracts/spec.ts';
import type { TokeniseResult } from '../contracts/trainer-protocol.ts';
import type { SourceContext } from '../data/sources.ts';
import { getFolder } from '../storage/file-set.ts';
import { createFileStore } from '../storage/file-store.ts';
import { bringImages } from '../storage/images.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { readSplitLengths } from '../storage/safetensors.ts';
import { packedRows } from './packing.ts';
import { type Sample, sampleSources } from './sample.ts';

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
  /** The stage preprocess, of the snapshot with the digest. */
  makeDataset: (input: { spec: Spec; snapshot: string }, store: ObjectStore) => Promise<Dataset>;
  signal?: AbortSignal;
  /** Instead of the sample's size. */
  bytesMax?: number;
}

export interface DataRead {
  /** null where no source could be looked into. */
  data: PlannedData | null;
  /** What was estimated, and what was left out; one sentence each. */
  notes: string[];
}

/** @throws AnnealError as the stages ingest and preprocess do. */
export async function readPlannedData(options: PlannedDataOptions): Promise<DataRead> {
  const { spec, folder, sources: ctx, signal, bytesMax } = options;
  const store = createFileStore(join(folder, 'store'));
  const sampled = { store, spec, ctx, signal, ...(bytesMax !== undefined && { bytesMax }) };
  const { notes, ...sample } = await sampleSources(sampled);
  return { data: sample.sources.length === 0 ? null : await prepareSample(options, store, sample), notes };
}

async function prepareSample(
  { spec, folder, signal, makeDataset }: PlannedDataOptions,
  store: ObjectStore,
  sample: Omit<Sample, 'notes'>,
): Promise<PlannedData> {
  const whole = { ...spec, data: { ...spec.data, sources: sample.sources } };
  const planned = sample.factor === 1 ? whole : withoutMinRows(whole);
  const { files, accounts, tokens } = await makeDataset({ spec: planned, snapshot: sample.snapshot.digest }, store);
  const shards = files.files.filter(({ path }) => isShardOf(path, 'train', 'safetensors'));
  const target = join(folder, 'dataset');
  await getFolder(store, { digest: files.digest, files: shards }, target, signal);
  const paths = shards.map(({ path }) => join(target, path));
  await bringImages(store, paths, signal);
  const rows = tokens.splits.train?.rows ?? 0;
  const rowsPerEpoch = spec.train.packing ? packedRows(await readSplitLengths(target, 'train')) : rows;
  const train = join(target, 'train.safetensors');
  return { accounts, splits: tokens.splits, factor: sample.factor, rowsPerEpoch, train };
}

/** A sample has fewer rows than the data. */
function withoutMinRows(spec: Spec): Spec {
  return { ...spec, data: { ...spec.data, gates: { ...spec.data.gates, minRows: 1 } } };
}
