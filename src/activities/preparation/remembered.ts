// What was prepared before: by this run, or by another one of the same input and code.
import type { RangePlan } from '../../contracts/ranges.ts';
import { type Dataset, DatasetSchema } from '../../contracts/records.ts';
import type { Accounts } from '../../contracts/rows.ts';
import type { Spec } from '../../contracts/spec.ts';
import type { PreprocessResult } from '../../contracts/stages.ts';
import type { TokeniseResult } from '../../contracts/trainer-protocol.ts';
import { recordPins } from '../../data/resolve/pins.ts';
import { digestTokenizer } from '../../data/tokens-key.ts';
import { digestOf, sha256Hex } from '../../storage/digest.ts';
import { keys } from '../../storage/keys.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { createJson, readJson } from '../../storage/record.ts';
import { codeIdentity } from '../../telemetry/code-identity.ts';
import { findBaseModel } from '../../trainer/base-model.ts';
import type { Parts } from '../parts.ts';
import { readRecord } from '../stage.ts';
import type { PreparationOptions } from './options.ts';

/** Digest of everything that decides the dataset, but for the code. The name of the model and where sources lie are not in it. */
export async function digestOfInput(
  parts: Parts,
  spec: Spec,
  plan: RangePlan,
  pseudonymKey: string | null,
): Promise<string> {
  const { sources, ...rules } = spec.data;
  return digestOf({
    ...{ plan, rules, sources: sources.map(({ uri: _uri, ...source }) => source) },
    tokenizer: await digestTokenizer(await findBaseModel(spec.model.base, parts.models)),
    method: spec.train.method,
    pseudonyms: pseudonymKey === null ? null : sha256Hex(pseudonymKey),
  });
}

/** By this run whatever the code was, by others with the same code. */
export async function findPrepared(store: ObjectStore, run: string, input: string): Promise<Dataset | null> {
  const own = await readJson(store, keys.stage(run, 'preprocess', input), DatasetSchema);
  return own ?? (await readJson(store, preparedKey(input), DatasetSchema));
}

/** When another attempt finished first, its answer is the one that counts. */
export async function rememberPrepared(
  store: ObjectStore,
  {
    run,
    input,
    spec,
    resolution,
  }: { run: string; input: string; spec: Spec; resolution: Parameters<typeof recordPins>[2] },
  made: Dataset,
): Promise<Dataset> {
  await createJson(store, preparedKey(input), made);
  const dataset = await noteForRun(store, run, input, made);
  await recordPins(store, { spec, snapshot: dataset.snapshot, dataset: dataset.digest }, resolution);
  return dataset;
}

export async function noteForRun(store: ObjectStore, run: string, input: string, made: Dataset): Promise<Dataset> {
  const key = keys.stage(run, 'preprocess', input);
  const outcome = await createJson(store, key, made);
  const dataset = outcome === 'exists' ? await readRecord(store, key, DatasetSchema) : made;
  await createJson(store, keys.dataset(dataset.digest), dataset);
  return dataset;
}

function preparedKey(input: string): string {
  return keys.prepared(digestOf({ input, code: codeIdentity().digest }));
}

export function summarise(
  { links }: PreparationOptions,
  { digest, accounts, tokens, card }: Dataset,
): PreprocessResult {
  const trainTokens = tokens.splits.train?.tokens ?? 0;
  return {
    dataset: digest,
    accounts,
    trainTokens,
    ...(card === undefined || links === undefined ? {} : { card: links.card(digest) }),
    outcome: `${describeRows(accounts)}${describeCut(tokens.cut)}; ${trainTokens} tokens to train on`,
  };
}

function describeRows({ rowsIn, kept, duplicates, nearDuplicates = 0, leftOut = 0, dropped }: Accounts): string {
  const count = Object.values(dropped).reduce((sum, n) => sum + n, 0);
  const near = nearDuplicates === 0 ? '' : `, ${nearDuplicates} near duplicates`;
  const left = leftOut === 0 ? '' : `, ${leftOut} left out`;
  return `${rowsIn} rows in, ${kept} kept, ${duplicates} duplicates${near}${left}, ${count} dropped`;
}

function describeCut({ truncated, split }: TokeniseResult['cut']): string {
  const pieces = split.rows === 0 ? '' : `, ${split.rows} long rows cut into ${split.into}`;
  return truncated === 0 ? pieces : `${pieces}, ${truncated} truncated`;
}
