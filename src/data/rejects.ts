// Takes the rows that the tokeniser rejected out of the splits, so that rows and shards match one to one.
import { basename, join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import type { Snapshot } from '../contracts/records.ts';
import { type DropCode, type JudgedRow, type PairRow, type Row, SPLITS, type Split } from '../contracts/rows.ts';
import type { TokeniserReject } from './accounts.ts';
import { type LineWriter, openLineWriter, readLines, rewriteLines } from './line-file.ts';
import { previewOf, quarantinedRow } from './rows-read.ts';

/** A line of the tokeniser's `rejected` file; `index` counts the lines of `<split>.jsonl` from 0. */
export interface RejectedLine {
  split: string;
  index: number;
  code: string;
  message: string;
  /** Of a row that is too long. */
  tokens?: number;
}

export async function readRejected(path: string): Promise<RejectedLine[]> {
  const rejected: RejectedLine[] = [];
  for await (const line of readLines(path)) if (line !== '') rejected.push(JSON.parse(line) as RejectedLine);
  return rejected;
}

/**
 * Takes the tokeniser's rejects out of `<split>.jsonl`, so that its lines match the shard's rows one to one, and adds them to
 * the quarantine. Not to be done twice: the indices are those of the files as `cleanRows` left them.
 */
export async function rewriteWithoutRejected(
  folder: string,
  rejected: RejectedLine[],
  snapshot: Snapshot,
): Promise<TokeniserReject[]> {
  const taken: TokeniserReject[] = [];
  const quarantine = await openLineWriter(join(folder, 'quarantine.jsonl'), 'a');
  try {
    for (const split of SPLITS) {
      const byIndex = new Map(rejected.filter((line) => line.split === split).map((line) => [line.index, line]));
      if (byIndex.size > 0) taken.push(...(await takeRejected(folder, split, byIndex, snapshot, quarantine)));
    }
  } finally {
    await quarantine.close();
  }
  if (taken.length !== rejected.length)
    throw new AnnealError(
      'trainer_bug',
      `The tokeniser rejected ${rejected.length} rows, of which ${taken.length} are in the splits; report it.`,
    );
  return taken;
}

async function takeRejected(
  folder: string,
  split: Split,
  byIndex: Map<number, RejectedLine>,
  snapshot: Snapshot,
  quarantine: LineWriter,
): Promise<TokeniserReject[]> {
  const taken: TokeniserReject[] = [];
  await rewriteLines(join(folder, `${split}.jsonl`), async (text, index) => {
    const found = byIndex.get(index);
    if (found === undefined) return true;
    const { src, ...row } = JSON.parse(text) as Row | PairRow | JudgedRow;
    const code = found.code as DropCode;
    const name = basename(snapshot.sources[src.source]?.uri ?? '');
    const broken = {
      line: src.line,
      code,
      path: '',
      message: found.message,
      preview: previewOf(JSON.stringify('messages' in row ? row.messages : row)),
    };
    taken.push({ split, source: src.source, code, ...(found.tokens === undefined ? {} : { tokens: found.tokens }) });
    if (quarantine.add(JSON.stringify(quarantinedRow(broken, name)))) await quarantine.flush();
    return false;
  });
  return taken;
}
