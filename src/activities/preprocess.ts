// Stage `preprocess`: cleans, splits and tokenises the snapshot into a dataset, with accounts that add up.
// Everything that can be wrong with the data is found here, before a GPU is touched.
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import { type Dataset, DatasetSchema, SnapshotSchema } from '../contracts/records.ts';
import { ROW_KINDS, SPLITS } from '../contracts/rows.ts';
import type { PreprocessInput, PreprocessResult } from '../contracts/stages.ts';
import {
  PROTOCOL_VERSION,
  type TokeniseJob,
  type TokeniseResult,
  TokeniseResultSchema,
} from '../contracts/trainer-protocol.ts';
import { finishAccounts } from '../data/accounts.ts';
import { cleanRows } from '../data/preprocess.ts';
import { readRejected, rewriteWithoutRejected } from '../data/rejects.ts';
import { digestOf, sha256Hex } from '../storage/digest.ts';
import { getBlob, putFolder } from '../storage/file-set.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { createJson, readJson } from '../storage/record.ts';
import { codeIdentity } from '../telemetry/code-identity.ts';
import { findBaseModel } from '../trainer/base-model.ts';
import { requireDone, startChild } from '../trainer/child.ts';
import type { Parts } from './parts.ts';
import { readRecord, rememberStage, runStage, type StageContext } from './stage.ts';

/** From SIGTERM to SIGKILL; there is nothing to save, ms. */
const GRACE_MS = 1_000;
/** Longest silence of the tokeniser, ms. */
const SILENCE_MS_MAX = 10 * 60_000;

export function createPreprocessActivities(parts: Parts) {
  return {
    async preprocess(input: PreprocessInput): Promise<PreprocessResult> {
      return await runStage('preprocess', async (context) => {
        const { run, spec, snapshot } = input;
        const { sources: _sources, ...rules } = spec.data;
        // Chats go without a word for their kind, so that what was made of them before there were others is found again.
        const kind = ROW_KINDS[spec.train.method] === 'chat' ? {} : { kind: ROW_KINDS[spec.train.method] };
        const tokenizer = await digestOfTokenizer(await findBaseModel(spec.model.base, parts.models));
        const remembered = {
          run,
          stage: 'preprocess',
          input: { snapshot, rules, tokenizer, ...kind },
          schema: DatasetSchema,
        } as const;
        const { value } = await rememberStage(parts.store, remembered, () =>
          shareDataset(parts.store, remembered.input, () => makeDataset(parts, input, context)),
        );
        await createJson(parts.store, keys.dataset(value.digest), value);
        return summarise(value);
      });
    },
  };
}

/** Runs with the same input, such as the trials of a sweep, share what the first of them made by the same code. */
async function shareDataset(store: ObjectStore, input: object, make: () => Promise<Dataset>): Promise<Dataset> {
  const key = keys.prepared(digestOf({ ...input, code: codeIdentity().digest }));
  const earlier = await readJson(store, key, DatasetSchema);
  if (earlier !== null) return earlier;
  const made = await make();
  await createJson(store, key, made);
  return made;
}

/** The files that decide how a chat becomes tokens: another model with the same ones gives the same dataset. */
const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'];

async function digestOfTokenizer(folder: string): Promise<string> {
  const contents = TOKENIZER_FILES.map((file) => readFile(join(folder, file)).catch(absent));
  return digestOf((await Promise.all(contents)).map((bytes) => bytes && sha256Hex(bytes)));
}

function absent(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}

/** The whole stage but for its records; also what `anneal plan` counts with. */
export async function makeDataset(
  host: Parts,
  { run, spec, snapshot: digest }: PreprocessInput,
  context: StageContext,
): Promise<Dataset> {
  const snapshot = await readRecord(host.store, keys.snapshot(digest), SnapshotSchema);
  const folder = join(host.state, 'data', run);
  const files = join(folder, 'dataset');
  await rm(folder, { recursive: true, force: true });
  await mkdir(files, { recursive: true });
  try {
    const cleaned = await cleanRows(
      snapshot,
      (parts) => readParts(host.store, parts),
      { ...spec.data, method: spec.train.method },
      files,
      ({ rowsIn, bytesRead, sizeBytes }) =>
        context.report({ phase: `clean, ${rowsIn} rows`, step: bytesRead, of: sizeBytes }),
      context.signal,
    );
    const tokens = await tokenise(host, spec, folder, files, context);
    const rejected = await rewriteWithoutRejected(files, await readRejected(join(folder, 'rejected.jsonl')), snapshot);
    const accounts = finishAccounts(cleaned.accounts, rejected, spec.data.split);
    if (!(tokens.splits.train && tokens.splits.train.trainableTokens > 0)) {
      throw new AnnealError(
        'data_rejected',
        `None of the ${accounts.splits.train} training rows has a token to train on; raise \`data.maxLength\` or look at the quarantine.`,
      );
    }
    const stored = await putFolder(host.store, files, context.signal);
    const identity = { snapshot: digest, files: stored, system: spec.data.system };
    const { tokenizerSha256, templateSha256 } = tokens;
    return { digest: digestOf({ ...identity, tokenizerSha256, templateSha256 }), ...identity, accounts, tokens };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function* readParts(store: Parts['store'], parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield await getBlob(store, part);
}

async function tokenise(
  parts: Parts,
  spec: PreprocessInput['spec'],
  folder: string,
  files: string,
  context: StageContext,
): Promise<TokeniseResult> {
  const splits = SPLITS.filter((split) => split !== 'validation' || spec.data.split.validation > 0);
  const job: TokeniseJob = {
    v: PROTOCOL_VERSION,
    command: 'tokenise',
    tokenizer: await findBaseModel(spec.model.base, parts.models),
    maxLength: spec.data.maxLength,
    kind: ROW_KINDS[spec.train.method],
    splits: splits.map((name) => ({
      name,
      rows: join(files, `${name}.jsonl`),
      out: join(files, `${name}.safetensors`),
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

function summarise({ digest, accounts, tokens }: Dataset): PreprocessResult {
  const dropped = Object.values(accounts.dropped).reduce((sum, n) => sum + n, 0);
  const trainTokens = tokens.splits.train?.tokens ?? 0;
  return {
    dataset: digest,
    accounts,
    trainTokens,
    outcome: `${accounts.rowsIn} rows in, ${accounts.kept} kept, ${accounts.duplicates} duplicates, ${dropped} dropped; ${trainTokens} tokens to train on`,
  };
}
