// One quarantine for a dataset: range by range what cleaning dropped, then what the tokeniser refused.
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import type { CleanedPiece, TokenisedRange } from '../../contracts/ranges.ts';
import type { StoredFile } from '../../contracts/records.ts';
import { getFile } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { createLineCutter } from '../lines.ts';
import { openBlockWriter } from '../range/block-writer.ts';
import { RANGE_FILES } from '../range/options.ts';
import { QUARANTINE_ROWS_MAX } from './notes.ts';

interface QuarantinedRanges {
  /** By range. */
  pieces: CleanedPiece[][];
  tokenised: TokenisedRange[];
}

export async function mergeQuarantine(
  store: ObjectStore,
  { pieces, tokenised }: QuarantinedRanges,
  folder: string,
  target: string,
  signal: AbortSignal,
): Promise<void> {
  const files = pieces.flatMap((range, i) =>
    [...range, tokenised[i]].flatMap(
      (one) => one?.files.files.find(({ path }) => path === RANGE_FILES.quarantine) ?? [],
    ),
  );
  const out = openBlockWriter(target);
  let room = QUARANTINE_ROWS_MAX;
  try {
    for (const [i, file] of files.entries()) {
      if (room === 0) break;
      if (file.size > 0) room -= await addLines(store, file, join(folder, `quarantine-${i}`), { out, room, signal });
    }
  } finally {
    out.close();
  }
}

async function addLines(
  store: ObjectStore,
  file: StoredFile,
  path: string,
  { out, room, signal }: { out: ReturnType<typeof openBlockWriter>; room: number; signal: AbortSignal },
): Promise<number> {
  await getFile(store, file, path, signal);
  const cutter = createLineCutter(Number.POSITIVE_INFINITY);
  let added = 0;
  const take = ({ bytes }: { bytes: Buffer }) => {
    if (added === room) return;
    out.addBytes(bytes);
    out.addText('\n');
    added++;
  };
  for await (const chunk of createReadStream(path)) cutter.push(chunk as Buffer, take);
  cutter.end(take);
  return added;
}
