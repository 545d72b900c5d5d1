// The files of a range's rows, one behind the other. None is larger than a part of the store, but for a row that is: a file of several
// parts would be hashed twice on its way there, as a whole and by its parts.
import type { FileSet, StoredFile } from '../../contracts/records.ts';
import { PART_BYTES_MAX } from '../../storage/object-store.ts';

export const ROWS_FILE_BYTES_MAX = PART_BYTES_MAX;

/** In the order of their names, for up to ten thousand of them: a JSON array is one range, whatever its size. */
export function rowsFileName(number: number): string {
  return `rows-${String(number).padStart(4, '0')}.jsonl`;
}

/** Pieces that the release before cleaned have all rows in one file. */
export function isRowsFile(path: string): boolean {
  return /^rows(-\d{4})?\.jsonl$/.test(path);
}

export function rowsFilesOf({ files }: FileSet): StoredFile[] {
  return files.filter(({ path }) => isRowsFile(path));
}

/** All rows of a range, as `readSource` takes them. */
export function rowsOf(files: FileSet): { parts: string[] } {
  return { parts: rowsFilesOf(files).flatMap(({ parts }) => parts) };
}
