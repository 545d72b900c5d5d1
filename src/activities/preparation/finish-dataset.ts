// Puts the ranges together: accounts that add up, the files of all shards, the quarantine, the card, and the record of the dataset.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AnnealError } from '../../contracts/failure.ts';
import type { CleanedPiece, Resolution, TokenisedRange } from '../../contracts/ranges.ts';
import type { Dataset, StoredFile } from '../../contracts/records.ts';
import { type Accounts, ROW_KINDS } from '../../contracts/rows.ts';
import { shardName } from '../../contracts/shards.ts';
import type { Spec } from '../../contracts/spec.ts';
import type { TokeniseResult } from '../../contracts/trainer-protocol.ts';
import { finishAccounts, openAccounts, requireTokenisedRows } from '../../data/accounts.ts';
import { mergeQuarantine } from '../../data/preparation/quarantine.ts';
import { loadSnapshot } from '../../data/preparation/snapshots.ts';
import { refusalOf, requireShare } from '../../data/resolve/gates.ts';
import { mergeTokens } from '../../data/tokens.ts';
import { digestOf } from '../../storage/digest.ts';
import { fileSetOf, putFile } from '../../storage/file-set.ts';
import { codeIdentity } from '../../telemetry/code-identity.ts';
import type { Parts } from '../parts.ts';
import type { StageContext } from '../stage.ts';
import { firstRejected, makeCard } from './make-card.ts';
import type { CardLinks } from './options.ts';
import { refuseData } from './stopped.ts';

export interface RangesToFinish {
  run: string;
  spec: Spec;
  snapshot: string;
  resolution: Resolution;
  /** By range. */
  pieces: CleanedPiece[][];
  tokenised: TokenisedRange[];
  /** Absent where there is nobody to show them. */
  links: CardLinks | undefined;
  /** From the stage's beginning to here, or null. */
  seconds: number | null;
  /** Working folder. */
  folder: string;
}

/** @throws AnnealError `data_rejected` when a gate fails that the tokeniser's rejects bring down. */
export async function finishDataset(parts: Parts, input: RangesToFinish, context: StageContext): Promise<Dataset> {
  const { spec, resolution, tokenised } = input;
  const snapshot = await loadSnapshot(parts.store, input.snapshot);
  const pieces = input.pieces.flat();
  const tokens = mergeTokens(tokenised.map((range) => range.tokens));
  const accounts = finishAccounts(openAccounts(snapshot, pieces, resolution.sources), tokenised);
  const blocked = refusalOf(() => {
    requireTokenisedRows(accounts, tokenised, spec.data.split);
    requireShare(spec, accounts);
    requireTrainable(accounts, tokens);
  });
  const { folder } = input;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  try {
    if (blocked !== null) {
      const rejected = await firstRejected(parts.store, input, context.signal);
      const refused = { ...input, snapshot, pieces, accounts, tokens, rejected };
      throw await refuseData(parts.store, { ...refused, resolution: { ...resolution, blocked } }, input.links);
    }
    context.report({ phase: 'gather the shards' });
    const path = join(folder, 'quarantine.jsonl');
    await mergeQuarantine(parts.store, input, folder, path, context.signal);
    const quarantine = { path: 'quarantine.jsonl', ...(await putFile(parts.store, path, context.signal)) };
    const files = fileSetOf([...shardFiles(tokenised), quarantine]);
    const made = { snapshot: input.snapshot, files, accounts, tokens, system: spec.data.system };
    const digest = digestOfDataset(spec, input, accounts, tokens);
    context.report({ phase: 'write the card' });
    return {
      digest,
      ...made,
      ...(await makeCard(parts, { ...input, folder, digest, accounts, tokens, snapshot }, context)),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What is in it and by what code it was tokenised; not how the sources were cut. */
function digestOfDataset(
  spec: Spec,
  { snapshot, resolution }: RangesToFinish,
  accounts: Accounts,
  tokens: TokeniseResult,
) {
  const { tokenizerSha256, templateSha256, splits } = tokens;
  const { system, groupBy, maxLength, tooLong } = spec.data;
  return digestOf({
    ...{ snapshot, rows: resolution.rows, dropped: accounts.dropped, splits: accounts.splits, tokens: splits },
    ...{ system, groupBy, maxLength, tooLong, kind: ROW_KINDS[spec.train.method], tokenizerSha256, templateSha256 },
    code: codeIdentity().digest,
  });
}

function requireTrainable({ splits }: Accounts, tokens: TokeniseResult): void {
  if (tokens.splits.train && tokens.splits.train.trainableTokens > 0) return;
  throw new AnnealError(
    'data_rejected',
    `None of the ${splits.train} training rows has a token to train on; raise \`data.maxLength\` or look at the quarantine.`,
  );
}

/** The files of the ranges under the names of a dataset's shards. */
function shardFiles(tokenised: TokenisedRange[]): StoredFile[] {
  return tokenised.flatMap(({ files }, range) =>
    files.files.flatMap((file) => {
      const [, split, extension] = /^(\w+)\.(jsonl|safetensors)$/.exec(file.path) ?? [];
      if (split === undefined || split === 'quarantine') return [];
      return [{ ...file, path: shardName(split, extension as 'jsonl', range, tokenised.length) }];
    }),
  );
}
