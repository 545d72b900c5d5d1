// Fingerprints with their rows on disk, in files by the fingerprint, so that a part of them is compared at a time.
import { join } from 'node:path';
import { openRowLists } from '../../range/row-lists.ts';
import type { PrintFilter } from './print-filter.ts';

/** Gathered for each file before it is written. */
const BLOCK_BYTES = 128 * 1024;

export interface PrintFiles {
  /** Those of [from, to) that the filter may have; all of them where there is none. */
  add(row: number, prints: Int32Array, from: number, to: number, filter?: PrintFilter): void;
  close(): void;
  readonly paths: string[];
  /** Fingerprints in each. */
  readonly counts: number[];
}

export function openPrintFiles(folder: string, name: string, parts: number): PrintFiles {
  const paths = Array.from({ length: parts }, (_, i) => join(folder, `${name}-${i}.prints`));
  const lists = paths.map((path) => ({
    writer: openRowLists(path, BLOCK_BYTES),
    prints: new Int32Array(1024),
    length: 0,
  }));
  const counts = paths.map(() => 0);
  let missing = new Int32Array(1024);
  return {
    paths,
    counts,
    add(row, prints, from, to, filter) {
      if (missing.length < to - from) missing = new Int32Array(2 * (to - from));
      if (filter !== undefined) filter.findMissing(prints, from, to, missing);
      for (let i = from; i < to; i++) {
        if (missing[i - from] !== 0) continue;
        const print = prints[i] as number;
        const list = lists[partOf(print, parts)] as (typeof lists)[number];
        if (list.length === list.prints.length) list.prints = twice(list.prints);
        list.prints[list.length++] = print;
      }
      for (let part = 0; part < parts; part++) {
        const list = lists[part] as (typeof lists)[number];
        if (list.length === 0) continue;
        list.writer.add(row, list.prints, 0, list.length);
        counts[part] = (counts[part] as number) + list.length;
        list.length = 0;
      }
    },
    close() {
      for (const { writer } of lists) writer.close();
    },
  };
}

/** By bits that tables do not place them by. */
function partOf(print: number, parts: number): number {
  return ((print >>> 16) * parts) >>> 16;
}

function twice(numbers: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * numbers.length);
  larger.set(numbers);
  return larger;
}
