// The files that a range leaves in its folder, open for writing.
import { join } from 'node:path';
import { type BlockWriter, openBlockWriter } from './block-writer.ts';
import { RANGE_FILES } from './options.ts';
import { openRowWriter, type RowWriter } from './row-writer.ts';

export interface RangeFiles {
  rows: RowWriter;
  quarantine: BlockWriter;
  bands: BlockWriter | null;
  close(): void;
}

export function openRangeFiles(folder: string, { hasBands }: { hasBands: boolean }): RangeFiles {
  const rows = openRowWriter(join(folder, RANGE_FILES.rows), join(folder, RANGE_FILES.index));
  const quarantine = openBlockWriter(join(folder, RANGE_FILES.quarantine));
  const bands = hasBands ? openBlockWriter(join(folder, RANGE_FILES.bands)) : null;
  return {
    rows,
    quarantine,
    bands,
    close() {
      for (const file of [rows, quarantine, bands]) file?.close();
    },
  };
}
