// Looks for text of the held-out rows in the training rows: every n words in a row that both have. What more than ten training rows
// have is their template, and told apart (the rule of GPT-3 and of lm-evaluation-harness). Exact but for collisions of 64 bits.
// The rows' fingerprints, which cleaning wrote, name the rows that may have such text; only those are read, once.
// Memory: two filters of at most 64 MB, and one part of 32 MiB; of what passed the filters one file of 64.
// On disk: the fingerprints, 4 bytes for each word of the rows that are read, 12 for each fingerprint and each gram that both may have.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { HeldOutText } from '../../../contracts/ranges.ts';
import { Grams } from '../../near/grams.ts';
import { readRowLists } from '../../range/row-lists.ts';
import { isHeldOut } from '../fates.ts';
import { type CandidateInput, findCandidates } from './candidates.ts';
import { type Compared, compareAll, TEMPLATE_ROWS } from './compare.ts';
import { openGramFiles } from './gram-file.ts';
import { GramFilter } from './gram-filter.ts';
import { createHotGrams } from './hot-grams.ts';
import { gatherTexts, type TextInput, type Texts } from './texts.ts';

/** Words whose grams are in memory at a time. */
const STRETCH_WORDS = 4096;

export type HeldOutTextInput = CandidateInput & TextInput;

export interface HeldOutTextFound {
  counts: Omit<HeldOutText, 'dropped'>;
  /** Calls back with each training row that shares text with a held-out one. */
  eachLeak(take: (row: number) => void): void;
}

export async function findHeldOutText(input: HeldOutTextInput): Promise<HeldOutTextFound> {
  const folder = join(input.folder, 'shared-words');
  await mkdir(folder, { recursive: true });
  input.onRows(0);
  try {
    const candidates = await findCandidates({ ...input, folder });
    const paths = { heldOut: join(folder, 'held-out.words'), trained: join(folder, 'trained.words') };
    const texts = await gatherTexts(input, candidates, paths);
    const grams = await gatherGrams(texts, folder, input);
    return told(input, await compareAll(grams.trained, grams.heldOut, input.fates.length, input.signal));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Files of the grams of either side that the other side may have, too. */
async function gatherGrams(
  texts: Texts,
  folder: string,
  { words: n, signal }: Pick<TextInput, 'words' | 'signal'>,
): Promise<{ trained: string[]; heldOut: string[] }> {
  const each = (path: string, take: (high: number, low: number, row: number) => void) =>
    eachGram(path, new Grams(n), take, signal);
  const known = GramFilter.sizedFor(texts.heldOutWords);
  await each(texts.heldOut, (high, low) => known.add(high, low));

  const both = GramFilter.sizedFor(texts.heldOutWords / 4);
  const isHot = createHotGrams(TEMPLATE_ROWS + 1);
  const trained = openGramFiles(folder, 'trained');
  await each(texts.trained, (high, low, row) => {
    if (!known.has(high, low) || isHot(high, low, row)) return;
    both.add(high, low);
    trained.add(high, low, row);
  });
  trained.close();

  const heldOut = openGramFiles(folder, 'held-out');
  await each(texts.heldOut, (high, low, row) => {
    if (both.has(high, low)) heldOut.add(high, low, row);
  });
  heldOut.close();
  return { trained: trained.paths, heldOut: heldOut.paths };
}

async function eachGram(
  path: string,
  grams: Grams,
  take: (high: number, low: number, row: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const takeWords = (row: number, words: Int32Array, start: number, end: number) => {
    for (let from = start; from < end; from += STRETCH_WORDS) {
      grams.read(words, from, Math.min(end, from + STRETCH_WORDS + grams.n - 1));
      for (let i = 0; i < grams.count; i++) take(grams.highs[i] as number, grams.lows[i] as number, row);
    }
  };
  await readRowLists(path, takeWords, signal);
}

function told(
  { fates, words }: Pick<TextInput, 'fates' | 'words'>,
  { shared, template, leaks }: Compared,
): HeldOutTextFound {
  const counts = { words, heldOut: 0, shared: 0, template: 0, trainRows: 0 };
  for (const [row, fate] of fates.entries()) {
    if (isHeldOut(fate)) counts.heldOut++;
    if (shared.has(row)) counts.shared++;
    else if (template.has(row)) counts.template++;
    if (leaks.has(row)) counts.trainRows++;
  }
  const eachLeak = (take: (row: number) => void) => {
    for (let row = 0; row < fates.length; row++) if (leaks.has(row)) take(row);
  };
  return { counts, eachLeak };
}
