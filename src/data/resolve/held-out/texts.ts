// Gathers the words that are compared, of each side in a file: those around a fingerprint that both sides have. 4 bytes a word.
import { RowWords } from '../../near/row-words.ts';
import { Winnow } from '../../near/winnow.ts';
import { openRowLists } from '../../range/row-lists.ts';
import { isHeldOut } from '../fates.ts';
import { type CandidateRowsInput, eachCandidate } from './candidate-rows.ts';
import type { Candidates } from './candidates.ts';
import type { PrintTable } from './print-table.ts';

export interface TextInput extends CandidateRowsInput {
  fates: Uint8Array;
  /** Words in a row: shorter texts are left out. */
  words: number;
}

export interface Texts {
  /** Lists of words by row. */
  heldOut: string;
  trained: string;
  /** Words of the held-out ones. */
  heldOutWords: number;
}

/** Leaves the files at the paths. Only the rows that are candidates are read. */
export async function gatherTexts(
  input: TextInput,
  { rows, prints }: Candidates,
  paths: Pick<Texts, 'heldOut' | 'trained'>,
): Promise<Texts> {
  const { fates, words: n } = input;
  const [heldOut, trained] = [openRowLists(paths.heldOut), openRowLists(paths.trained)];
  const rowWords = new RowWords();
  const eachPassage = prints === null ? wholeText(n) : passages(n, prints);
  let heldOutWords = 0;
  try {
    await eachCandidate(input, rows, (row, source, from, to) => {
      const isHeld = isHeldOut(fates[row] as number);
      const lists = isHeld ? heldOut : trained;
      const take = (passage: Int32Array) => {
        lists.add(row, passage);
        if (isHeld) heldOutWords += passage.length;
      };
      rowWords.eachText(source, from, to, (words) => eachPassage(words, take));
    });
  } finally {
    heldOut.close();
    trained.close();
  }
  return { ...paths, heldOutWords };
}

type EachPassage = (words: Int32Array, take: (passage: Int32Array) => void) => void;

function wholeText(n: number): EachPassage {
  return (words, take) => {
    if (words.length >= n) take(words);
  };
}

/** What n words in a row that hold a run with such a fingerprint can reach, in as few pieces as there are. */
function passages(n: number, prints: PrintTable): EachPassage {
  const winnow = new Winnow(n);
  const before = n - winnow.runWords;
  return (words, take) => {
    winnow.clear();
    winnow.read(words);
    let [from, to] = [0, 0];
    for (let i = 0; i < winnow.count; i++) {
      if (!prints.has(winnow.prints[i] as number)) continue;
      const at = winnow.starts[i] as number;
      if (at - before > to && to > 0) {
        take(words.subarray(from, to));
        to = 0;
      }
      from = to === 0 ? Math.max(0, at - before) : Math.min(from, Math.max(0, at - before));
      to = Math.max(to, Math.min(words.length, at + n));
    }
    if (to > 0) take(words.subarray(from, to));
  };
}
