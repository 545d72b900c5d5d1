// Writes the rows that a range keeps, each as one line of JSON, and their index.
import { hash } from 'node:crypto';
import { openBlockWriter } from './block-writer.ts';
import { ID_BYTES, INDEX_BYTES, writeIndexEntry } from './index-file.ts';
import { ROWS_FILE_BYTES_MAX } from './rows-files.ts';

const ID_HEX_DIGITS = 32;
const BEFORE_ID = '{"id":"';
const AFTER_ID = '",';
const BEFORE_GROUP = ',"group":"';
/** Where the content's own text starts in a line. */
const CONTENT_AT = BEFORE_ID.length + ID_HEX_DIGITS + AFTER_ID.length;
/** Group, source and line with their names. */
const TAIL_BYTES_MAX = 128;

export interface Placed {
  group: string;
  source: number;
  line: number;
  flags: number;
}

/** Bytes of the source: [from, to). */
export interface SourceBytes {
  source: Buffer;
  from: number;
  to: number;
}

export interface WrittenRow {
  id: string;
  jsonBytes: number;
  /** Its line with the line end; valid until the next row is added. */
  line: SourceBytes;
}

export interface RowWriter {
  /** @param content the JSON text of the row's content: a string with its braces, or bytes without them. */
  add(content: string | SourceBytes, placed: Placed): WrittenRow;
  close(): void;
}

/** @param pathOf the files of the rows, by their number. */
export function openRowWriter(pathOf: (number: number) => string, indexPath: string): RowWriter {
  let rows = openBlockWriter(pathOf(0));
  let [number, fileBytes] = [0, 0];
  const index = openBlockWriter(indexPath);
  /** In the next file where this one has no room. */
  const reserve = (sizeBytes: number) => {
    if (fileBytes > 0 && fileBytes + sizeBytes > ROWS_FILE_BYTES_MAX) {
      rows.close();
      rows = openBlockWriter(pathOf(++number));
      fileBytes = 0;
    }
    return rows.reserve(sizeBytes);
  };
  return {
    add(content, placed) {
      const sizeBytesMax = typeof content === 'string' ? content.length * 3 : content.to - content.from;
      const { block, at } = reserve(CONTENT_AT + sizeBytesMax + TAIL_BYTES_MAX);
      const from = at + CONTENT_AT;
      const to = from + writeContent(content, block, from);
      const id = hash('sha256', block.subarray(from, to), 'hex').slice(0, ID_HEX_DIGITS);
      block.write(`${BEFORE_ID}${id}${AFTER_ID}`, at, 'latin1');
      const lineBytes = to - at + block.write(tailOf(placed), to, 'latin1');
      rows.advance(lineBytes);
      fileBytes += lineBytes;
      const entry = index.reserve(INDEX_BYTES);
      writeIndexEntry(entry.block, entry.at, { id, group: placed.group, lineBytes, flags: placed.flags });
      index.advance(INDEX_BYTES);
      return { id, jsonBytes: to - from + 2, line: { source: block, from: at, to: at + lineBytes } };
    },
    close() {
      try {
        rows.close();
      } finally {
        index.close();
      }
    },
  };
}

/** @returns its bytes */
function writeContent(content: string | SourceBytes, block: Buffer, at: number): number {
  // The text's opening brace gives way to what stands before the content.
  if (typeof content === 'string') return block.write(content, at - 1) - 2;
  return content.source.copy(block, at, content.from, content.to);
}

/** Whether the line [from, to) holds the content of which the index at `at` has the id. */
export function hasId(line: Buffer, from: number, to: number, index: Buffer, at: number): boolean {
  const content = line.subarray(from + CONTENT_AT, line.lastIndexOf(BEFORE_GROUP, to));
  return hash('sha256', content, 'hex').startsWith(index.toString('hex', at, at + ID_BYTES));
}

function tailOf({ group, source, line }: Placed): string {
  return `${BEFORE_GROUP}${group}","src":{"source":${source},"line":${line}}}\n`;
}
