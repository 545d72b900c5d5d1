// Finds the rows of a cleaned piece that hold what an evaluation suite asks, and notes them beside the piece.
import { createReadStream } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ObjectStore } from '../../storage/object-store.ts';
import { type Contamination, createContamination, type EvalText, evalTexts } from '../contamination.ts';
import { createLineCutter } from '../lines.ts';
import { isRowsFile } from '../range/rows-files.ts';
import { readRecords } from '../readers.ts';
import { isBroken, type RawRow } from '../rows-read.ts';
import { readSource } from '../source-bytes.ts';
import type { PreparationHost } from './host.ts';
import { loadSnapshot } from './snapshots.ts';

export interface Decontamination {
  /** Digest of the suites' snapshot. */
  suites: string;
  /** Words in a row that are a hit. */
  ngram: number;
}

/** Read at once, bytes. */
const READ_BYTES = 1024 * 1024;

/** JSON of `[row, name of the evaluation]` for each row that must not be trained on. */
export const CONTAMINATED_FILE = 'contaminated.json';
export type ContaminatedRows = [row: number, evalName: string][];

/** Made once for all pieces of a process: building it reads the suites whole. */
const made = new Map<string, Promise<Contamination>>();

export async function findContaminated(
  { store, report, signal }: PreparationHost,
  decontamination: Decontamination,
  folder: string,
): Promise<void> {
  const find = await contaminationOf(store, decontamination);
  const found: ContaminatedRows = [];
  let row = 0;
  const lines = createLineCutter(Number.POSITIVE_INFINITY);
  const take = ({ source, from, to }: RawRow) => {
    const hit = find(source, from, to);
    if (hit !== null) found.push([row, hit.evalName]);
    row++;
  };
  for (const path of (await readdir(folder)).filter(isRowsFile).sort()) {
    for await (const chunk of createReadStream(join(folder, path), { highWaterMark: READ_BYTES })) {
      signal.throwIfAborted();
      lines.push(chunk as Buffer, take);
      report({ phase: `compare with the evaluations, ${row} rows` });
    }
  }
  lines.end(take);
  await writeFile(join(folder, CONTAMINATED_FILE), JSON.stringify(found));
}

function contaminationOf(store: ObjectStore, { suites, ngram }: Decontamination): Promise<Contamination> {
  const key = `${suites} ${ngram}`;
  const known = made.get(key);
  if (known !== undefined) return known;
  made.clear();
  const making = readSuites(store, suites).then((texts) => createContamination(texts, ngram));
  made.set(key, making);
  making.catch(() => made.delete(key));
  return making;
}

async function readSuites(store: ObjectStore, digest: string): Promise<EvalText[]> {
  const texts: EvalText[] = [];
  for (const source of (await loadSnapshot(store, digest)).sources) {
    const name = basename(source.uri);
    for await (const row of readRecords(readSource(store, source), source.format, { name })) {
      if (!isBroken(row)) texts.push(...evalTexts(row.value).map((text) => ({ ...text, evalName: name })));
    }
  }
  return texts;
}
