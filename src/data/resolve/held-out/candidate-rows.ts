// Reads the lines of the rows that are candidates. Where they stand, the rows' index says; files without any are not fetched. A line is
// verified by the id of its row, which is the digest of its content: three in four bytes are not looked at.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { CleanedPiece } from '../../../contracts/ranges.ts';
import type { StoredFile } from '../../../contracts/records.ts';
import { corruptFile, getUnverified } from '../../../storage/file-set.ts';
import { type ObjectStore, PART_BYTES_MAX } from '../../../storage/object-store.ts';
import { returnMemory, takeMemory } from '../../../storage/part-memory.ts';
import { INDEX_BYTES, LINE_BYTES_AT } from '../../range/index-file.ts';
import { hasId } from '../../range/row-writer.ts';
import { rowsFilesOf } from '../../range/rows-files.ts';
import { type RowIndex, readBlocks } from '../indexes.ts';
import type { Candidates } from './candidates.ts';

/** Bytes looked at before others have their turn: about 2 ms. */
const TURN_BYTES = 1024 * 1024;

export interface CandidateRowsInput {
  store: ObjectStore;
  pieces: CleanedPiece[];
  /** Of the pieces, in their order. */
  indexes: RowIndex[];
  signal: AbortSignal;
  /** Rows that were looked at or passed over so far. */
  onRows(rows: number): void;
}

/** [from, to) without the line end; valid until it returns. */
export type TakeLine = (row: number, source: Buffer, from: number, to: number) => void;

/** @throws AnnealError `checkpoint_corrupt`. */
export async function eachCandidate(
  { store, pieces, indexes, signal, onRows }: CandidateRowsInput,
  rows: Candidates['rows'],
  take: TakeLine,
): Promise<void> {
  for (const [i, { files }] of pieces.entries()) {
    const index = indexes[i] as RowIndex;
    const reader = new RowsReader(store, rowsFilesOf(files));
    let looked = 0;
    try {
      for await (const { first, rows: count, bytes } of readBlocks([index], signal)) {
        for (let row = 0; row < count; row++) {
          const at = row * INDEX_BYTES;
          const lineBytes = bytes.readUInt32LE(at + LINE_BYTES_AT);
          if (rows.has(first + row)) {
            const source = reader.bytes ?? (await reader.fetch());
            if (!hasId(source, reader.at, reader.at + lineBytes, bytes, at)) await reader.refuse();
            take(first + row, source, reader.at, reader.at + lineBytes - 1);
            looked += lineBytes;
          }
          reader.pass(lineBytes);
          if (looked < TURN_BYTES) continue;
          looked = 0;
          signal.throwIfAborted();
          await nextTurn();
        }
        onRows(first + count);
      }
    } finally {
      reader.close();
    }
  }
}

/** Where a reader of lines is in the files of a piece's rows. */
class RowsReader {
  /** Of the file in which the next line stands; null = they were not fetched. */
  bytes: Buffer | null = null;
  /** Where it stands in it. */
  at = 0;
  readonly #store: ObjectStore;
  readonly #files: StoredFile[];
  readonly #memory = takeMemory(PART_BYTES_MAX);
  #number = 0;

  constructor(store: ObjectStore, files: StoredFile[]) {
    this.#store = store;
    this.#files = files;
  }

  async fetch(): Promise<Buffer> {
    const { parts } = this.#file;
    const [only = ''] = parts;
    const bytes =
      parts.length === 1
        ? await getUnverified(this.#store, only, this.#memory)
        : Buffer.concat(await Promise.all(parts.map((part) => getUnverified(this.#store, part))));
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return this.bytes;
  }

  pass(lineBytes: number): void {
    this.at += lineBytes;
    if (this.at < this.#file.size) return;
    this.#number++;
    this.at = 0;
    this.bytes = null;
  }

  /** Of a file with another row than its index says. */
  async refuse(): Promise<never> {
    throw await corruptFile(this.#store, this.#file);
  }

  close(): void {
    returnMemory(this.#memory);
  }

  get #file(): StoredFile {
    return this.#files[this.#number] as StoredFile;
  }
}
