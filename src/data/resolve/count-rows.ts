// One way through all rows once their fates are settled: how many of each source went where, and the digest of which row is where.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Resolution, ResolvedSource } from '../../contracts/ranges.ts';
import { SPLITS, type Split } from '../../contracts/rows.ts';
import { putFile } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { openBlockWriter } from '../range/block-writer.ts';
import {
  FLAG_UNWANTED,
  FLAG_WANTED,
  FLAGS_AT,
  GROUP_AT,
  ID_BYTES,
  INDEX_BYTES,
  LINE_BYTES_AT,
} from '../range/index-file.ts';
import { FATE, isHeldOut, isKept } from './fates.ts';
import { BLOCK_ROWS, type IndexBlock, type RowIndex, readBlocks } from './indexes.ts';
import { crosses } from './near.ts';

export interface CountedRows {
  sources: ResolvedSource[];
  /** Of the ids and splits of the rows that stay, in order, and of how often they are repeated. */
  digest: string;
  /** Judged answers that stay, by their label. */
  labels: { wanted: number; unwanted: number };
  heldOut: Resolution['heldOut'];
  /** Training rows that are nearly the same as one that is held out. */
  nearCrossing: number;
}

export interface CountInput {
  store: ObjectStore;
  folder: string;
  signal: AbortSignal;
  indexes: RowIndex[];
  fates: Uint8Array;
  leaders: Uint32Array | null;
  /** By source. */
  repeats: number[];
}

export async function countRows(input: CountInput): Promise<CountedRows> {
  const { store, folder, signal, indexes, fates, leaders, repeats } = input;
  const sources = repeats.map(emptySource);
  const labels = { wanted: 0, unwanted: 0 };
  const kept = openKeptDigest(repeats);
  const groups = openGroups(folder);
  let nearCrossing = 0;
  try {
    for await (const block of readBlocks(indexes, signal)) {
      for (let row = 0; row < block.rows; row++) {
        const number = block.first + row;
        const fate = fates[number] as number;
        const leader = leaders?.[number] ?? number;
        countFate(sources[block.source] as ResolvedSource, fate, leader !== number);
        if (!isKept(fate)) continue;
        if (leader !== number && crosses(fates, number, leader)) nearCrossing++;
        kept.add(block, row, fate);
        countLabel(labels, block, row);
        if (isHeldOut(fate)) groups.add(block, row, fate);
      }
      kept.flush();
    }
  } finally {
    groups.close();
  }
  for (const [i, book] of sources.entries()) book.repeated = book.splits.train * ((repeats[i] as number) - 1);
  return { sources, digest: kept.digest(), labels, heldOut: await groups.store(store, signal), nearCrossing };
}

function emptySource(): ResolvedSource {
  const splits = { train: 0, validation: 0, test: 0 };
  return { splits, duplicates: 0, nearDuplicates: 0, nearFound: 0, contaminated: 0, leftOut: 0, repeated: 0 };
}

function countFate(book: ResolvedSource, fate: number, isNear: boolean): void {
  if (isNear) book.nearFound++;
  if (isKept(fate)) book.splits[SPLITS[fate] as Split]++;
  else if (fate === FATE.duplicate) book.duplicates++;
  else if (fate === FATE.near) book.nearDuplicates++;
  else if (fate === FATE.contaminated || fate === FATE.sharesText) book.contaminated++;
  else book.leftOut++;
}

function countLabel(labels: CountedRows['labels'], { bytes }: IndexBlock, row: number): void {
  const flags = bytes.readUInt32LE(row * INDEX_BYTES + FLAGS_AT);
  if (flags === FLAG_WANTED) labels.wanted++;
  if (flags === FLAG_UNWANTED) labels.unwanted++;
}

/** Does not depend on how the rows were cut into ranges. */
function openKeptDigest(repeats: number[]) {
  const hash = createHash('sha256').update(JSON.stringify(repeats));
  const block = Buffer.allocUnsafeSlow(BLOCK_ROWS * (ID_BYTES + 1));
  let used = 0;
  return {
    add({ bytes }: IndexBlock, row: number, fate: number) {
      bytes.copy(block, used, row * INDEX_BYTES, row * INDEX_BYTES + ID_BYTES);
      block[used + ID_BYTES] = fate;
      used += ID_BYTES + 1;
    },
    flush() {
      hash.update(block.subarray(0, used));
      used = 0;
    },
    digest: () => hash.digest('hex'),
  };
}

/** The groups of held-out rows, one after the other in a file for each split. */
function openGroups(folder: string) {
  const paths = { validation: join(folder, 'validation.groups'), test: join(folder, 'test.groups') };
  const writers = { validation: openBlockWriter(paths.validation), test: openBlockWriter(paths.test) };
  const put = async (store: ObjectStore, split: 'validation' | 'test', signal: AbortSignal) => ({
    path: `${split}.groups`,
    ...(await putFile(store, paths[split], signal)),
  });
  return {
    add({ bytes }: IndexBlock, row: number, fate: number) {
      const at = row * INDEX_BYTES;
      const writer = fate === FATE.test ? writers.test : writers.validation;
      writer.addBytes(bytes.subarray(at + GROUP_AT, at + LINE_BYTES_AT));
    },
    close() {
      for (const writer of Object.values(writers)) writer.close();
    },
    store: async (store: ObjectStore, signal: AbortSignal) => ({
      validation: await put(store, 'validation', signal),
      test: await put(store, 'test', signal),
    }),
  };
}
