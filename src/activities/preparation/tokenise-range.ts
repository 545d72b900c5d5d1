// Tokenises the rows of a range that stay, in a process of its own: a shard of each split. Remembered by what decides the bytes.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type CleanedPiece,
  type Resolution,
  type TokenisedRange,
  TokenisedRangeSchema,
} from '../../contracts/ranges.ts';
import { ROW_KINDS } from '../../contracts/rows.ts';
import { shardName } from '../../contracts/shards.ts';
import type { Spec } from '../../contracts/spec.ts';
import {
  PROTOCOL_VERSION,
  type TokeniseJob,
  type TokeniseResult,
  TokeniseResultSchema,
} from '../../contracts/trainer-protocol.ts';
import { takeRejected } from '../../data/preparation/rejects.ts';
import { loadSnapshot, repeatOf } from '../../data/preparation/snapshots.ts';
import { writeSplits } from '../../data/preparation/split-rows.ts';
import { digestTokenizer, tokensKey } from '../../data/tokens-key.ts';
import { digestOf } from '../../storage/digest.ts';
import { putFolder } from '../../storage/file-set.ts';
import { bringImages } from '../../storage/images.ts';
import { keys } from '../../storage/keys.ts';
import { createJson, readJson } from '../../storage/record.ts';
import { codeIdentity } from '../../telemetry/code-identity.ts';
import { findBaseModel } from '../../trainer/base-model.ts';
import { requireDone, startChild } from '../../trainer/child.ts';
import { readsImages } from '../../trainer/vision.ts';
import type { Parts } from '../parts.ts';
import type { StageContext } from '../stage.ts';
import { processesFor } from './options.ts';

/** From SIGTERM to SIGKILL; there is nothing to save, ms. */
const GRACE_MS = 1_000;
/** Longest silence of the tokeniser, ms. */
const SILENCE_MS_MAX = 10 * 60_000;

export interface RangeToTokenise {
  spec: Spec;
  snapshot: string;
  resolution: Resolution;
  /** Number of the range, from 0 on, and its pieces. */
  range: number;
  pieces: CleanedPiece[];
  /** Working folder. */
  folder: string;
}

export async function tokeniseRange(
  parts: Parts,
  input: RangeToTokenise,
  context: StageContext,
): Promise<{ key: string; tokenised: TokenisedRange }> {
  const { store } = parts;
  const tokenizer = await findBaseModel(input.spec.model.base, parts.models);
  const snapshot = await loadSnapshot(store, input.snapshot);
  const repeats = input.pieces.map(({ source }) => repeatOf(input.spec, snapshot, source));
  const key = keys.tokens(await inputKey(input, tokenizer, repeats));
  const earlier = await readJson(store, key, TokenisedRangeSchema);
  if (earlier !== null) return { key, tokenised: earlier };
  const { folder } = input;
  await rm(folder, { recursive: true, force: true });
  for (const name of ['rows', 'files']) await mkdir(join(folder, name), { recursive: true });
  try {
    const written = { store, folder: join(folder, 'rows'), quarantine: join(folder, 'files', 'quarantine.jsonl') };
    const fates = input.resolution.fates[input.range];
    if (fates === undefined) throw new Error(`the resolution has no range ${input.range}`);
    await writeSplits({ ...written, snapshot, pieces: input.pieces, fates, repeats, signal: context.signal });
    if (await readsImages(tokenizer)) {
      const rows = input.resolution.splits.map((name) => join(folder, 'rows', `${name}.jsonl`));
      await bringImages(store, rows, context.signal);
    }
    const tokens = await tokenise(parts, input, tokenizer, context);
    const rejects = await takeRejected(join(folder, 'rejected.jsonl'), written.quarantine, snapshot);
    const files = await putFolder(store, join(folder, 'files'), context.signal);
    const made: TokenisedRange = { files, tokens, ...rejects };
    await createJson(store, key, made);
    return { key, tokenised: made };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function inputKey({ spec, resolution, range, pieces }: RangeToTokenise, folder: string, repeats: number[]) {
  const { maxLength, tooLong } = spec.data;
  const rows = digestOf({
    pieces: pieces.map(({ files }) => files.digest),
    ...{ fates: resolution.fates[range]?.sha256, splits: resolution.splits, repeats },
  });
  const kind = ROW_KINDS[spec.train.method];
  const { tokenizer, template } = await digestTokenizer(folder);
  return tokensKey({ rows, tokenizer, template, maxLength, tooLong, kind, code: codeIdentity().digest });
}

async function tokenise(
  parts: Parts,
  { spec, resolution, folder }: RangeToTokenise,
  tokenizer: string,
  context: StageContext,
): Promise<TokeniseResult> {
  const job: TokeniseJob = {
    v: PROTOCOL_VERSION,
    command: 'tokenise',
    tokenizer,
    ...{ maxLength: spec.data.maxLength, tooLong: spec.data.tooLong, kind: ROW_KINDS[spec.train.method] },
    processes: processesFor(resolution.fates.length),
    splits: resolution.splits.map((name) => ({
      name,
      rows: join(folder, 'rows', `${name}.jsonl`),
      out: join(folder, 'files', shardName(name, 'safetensors', 0, 1)),
      kept: join(folder, 'files', shardName(name, 'jsonl', 0, 1)),
    })),
    rejected: join(folder, 'rejected.jsonl'),
  };
  const child = startChild({
    python: parts.python,
    job,
    folder,
    signal: context.signal,
    graceMs: GRACE_MS,
    silenceMsMax: () => SILENCE_MS_MAX,
    onEvent: (event) => {
      if (event.ev === 'progress') context.report({ phase: 'tokenise', step: event.done, of: event.of });
    },
  });
  const end = await child.ended;
  context.signal.throwIfAborted();
  requireDone(end, 'Tokenising');
  return TokeniseResultSchema.parse(end.result);
}
