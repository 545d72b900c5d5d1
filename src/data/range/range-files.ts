// The files that a range leaves in its folder, open for writing.
import { join } from 'node:path';
import { type BlockWriter, openBlockWriter } from './block-writer.ts';
import { RANGE_FILES, type RowRules } from './options.ts';
import { openPrintWriter, type PrintWriter } from './print-writer.ts';
import { openRowWriter, type RowWriter } from './row-writer.ts';
import { rowsFileName } from './rows-files.ts';

export interface RangeFiles {
  rows: RowWriter;
  quarantine: BlockWriter;
  bands: BlockWriter | null;
  prints: PrintWriter | null;
  close(): void;
}

export function openRangeFiles(folder: string, { nearDuplicates, sharedWords }: RowRules): RangeFiles {
  const rows = openRowWriter((number) => join(folder, rowsFileName(number)), join(folder, RANGE_FILES.index));
  const quarantine = openBlockWriter(join(folder, RANGE_FILES.quarantine));
  const bands = nearDuplicates.action === 'off' ? null : openBlockWriter(join(folder, RANGE_FILES.bands));
  const prints = sharedWords === null ? null : openPrintWriter(join(folder, RANGE_FILES.prints), sharedWords);
  return {
    rows,
    quarantine,
    bands,
    prints,
    close() {
      for (const file of [rows, quarantine, bands, prints]) file?.close();
    },
  };
}
