// Writes the fingerprints of the rows that a range keeps, by which resolving finds rows that may have words in a row in common.
import { RowWords } from '../near/row-words.ts';
import { Winnow } from '../near/winnow.ts';
import { openRowLists } from './row-lists.ts';
import type { SourceBytes } from './row-writer.ts';

export interface PrintWriter {
  /** Of the next row, whose line it is. */
  add(line: SourceBytes): void;
  close(): void;
}

/** @param n words in a row that two rows are to have in common */
export function openPrintWriter(path: string, n: number): PrintWriter {
  const lists = openRowLists(path);
  const rowWords = new RowWords();
  const winnow = new Winnow(n);
  const take = (words: Int32Array) => winnow.read(words);
  let row = 0;
  return {
    add({ source, from, to }) {
      winnow.clear();
      rowWords.eachText(source, from, to, take);
      if (winnow.count > 0) lists.add(row, winnow.prints.subarray(0, winnow.count));
      row++;
    },
    close: () => lists.close(),
  };
}
