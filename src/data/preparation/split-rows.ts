// Writes the rows of a range that stay into a file for each split, and what is contaminated into the quarantine.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CleanedPiece } from '../../contracts/ranges.ts';
import type { Snapshot, StoredFile } from '../../contracts/records.ts';
import { SPLITS } from '../../contracts/rows.ts';
import { getFile } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { createLineCutter } from '../lines.ts';
import { type BlockWriter, openBlockWriter } from '../range/block-writer.ts';
import { rowsOf } from '../range/rows-files.ts';
import { slicesOf } from '../readers.ts';
import { FATE, isKept } from '../resolve/fates.ts';
import { readSource } from '../source-bytes.ts';
import { sourceNames } from '../source-names.ts';
import { CONTAMINATED_FILE, type ContaminatedRows } from './contaminated.ts';
import { quarantineLine } from './rejects.ts';

export interface SplitRowsInput {
  store: ObjectStore;
  /** `<split>.jsonl` is written here, for every split. */
  folder: string;
  quarantine: string;
  snapshot: Snapshot;
  pieces: CleanedPiece[];
  /** Of the range. */
  fates: StoredFile;
  /** By piece: how often a training row stands in its split. */
  repeats: number[];
  signal: AbortSignal;
}

export async function writeSplits(input: SplitRowsInput): Promise<void> {
  const path = join(input.folder, 'fates');
  await getFile(input.store, input.fates, path, input.signal);
  const fates = await readFile(path);
  const writers = SPLITS.map((split) => openBlockWriter(join(input.folder, `${split}.jsonl`)));
  const quarantine = openBlockWriter(input.quarantine);
  try {
    let first = 0;
    for (const [i, piece] of input.pieces.entries()) {
      await writePiece(input, i, fates.subarray(first, first + piece.counts.kept), { writers, quarantine });
      first += piece.counts.kept;
    }
  } finally {
    for (const writer of [...writers, quarantine]) writer.close();
  }
}

interface Writers {
  /** By the fates of the splits. */
  writers: BlockWriter[];
  quarantine: BlockWriter;
}

async function writePiece(input: SplitRowsInput, i: number, fates: Uint8Array, { writers, quarantine }: Writers) {
  const { store, signal, snapshot } = input;
  const { files, source } = input.pieces[i] as CleanedPiece;
  const evalNames = fates.includes(FATE.contaminated) ? await readEvalNames(input, i) : new Map<number, string>();
  const name = sourceNames(snapshot.sources)[source] ?? '';
  for (let copy = 0; copy < (input.repeats[i] as number); copy++) {
    await eachLine(readSource(store, rowsOf(files)), signal, (line, row) => {
      const fate = fates[row] as number;
      if (isKept(fate) && (copy === 0 || fate === FATE.train)) {
        writers[fate]?.addBytes(line);
        writers[fate]?.addText('\n');
      }
      if (copy > 0 || (fate !== FATE.contaminated && fate !== FATE.sharesText)) return;
      quarantine.addText(contaminatedLine(line, name, whyContaminated(fate, evalNames.get(row) ?? null)));
    });
  }
}

async function readEvalNames({ store, folder, pieces, signal }: SplitRowsInput, i: number) {
  const found = (pieces[i] as CleanedPiece).files.files.find(({ path }) => path === CONTAMINATED_FILE);
  if (found === undefined) return new Map<number, string>();
  const path = join(folder, `contaminated-${i}`);
  await getFile(store, found, path, signal);
  return new Map(JSON.parse(await readFile(path, 'utf8')) as ContaminatedRows);
}

function whyContaminated(fate: number, evalName: string | null): string {
  if (fate === FATE.sharesText)
    return 'the row shares many words in a row with one that is held out; it is not trained on';
  if (evalName !== null) return `the row holds what the evaluation ${evalName} asks; it is not trained on`;
  return 'the row is nearly the same as one that is held out; it is not trained on';
}

function contaminatedLine(line: Buffer, name: string, message: string): string {
  const { id: _id, group: _group, src, ...content } = JSON.parse(line.toString('utf8'));
  return quarantineLine({ line: src.line, code: 'contaminated', message, preview: JSON.stringify(content) }, name);
}

type TakeLine = (line: Buffer, row: number) => void;

async function eachLine(bytes: AsyncIterable<Uint8Array>, signal: AbortSignal, take: TakeLine): Promise<void> {
  const cutter = createLineCutter(Number.POSITIVE_INFINITY);
  let row = 0;
  const takeLine = ({ bytes }: { bytes: Buffer }) => take(bytes, row++);
  for await (const slice of slicesOf(bytes)) {
    signal.throwIfAborted();
    cutter.push(slice, takeLine);
    await nextTurn();
  }
  cutter.end(takeLine);
}
