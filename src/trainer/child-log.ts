// What a trainer writes to stdout and stderr: a file that it appends to itself, so that it outlives both and blocks neither.
import { closeSync, openSync, readSync, statSync, truncateSync } from 'node:fs';

export interface ChildLog {
  path: string;
  /** Last lines of this child, oldest first. */
  tail(lines: number): string;
  size(): number;
  /** What was written from this offset on, at most so many bytes of its end. */
  since(offset: number, bytesMax: number): string;
  /** Empties a log that has grown beyond the limit: the writer appends, so it goes on at the beginning. */
  bound(): void;
}

/** A trainer that logs more than this repeats itself, bytes. */
const LOG_BYTES_MAX = 256 * 1024 * 1024;
/** Of the end, bytes: some long lines. */
const TAIL_BYTES = 16 * 1024;

export function openChildLog(path: string): ChildLog {
  closeSync(openSync(path, 'a'));
  /** A log that somebody took away is empty. */
  const size = () => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  let start = size();

  const since = (offset: number, bytesMax: number): string => {
    const end = size();
    if (end === 0) return '';
    const from = Math.max(Math.min(offset, end), end - bytesMax);
    const buffer = Buffer.alloc(end - from);
    const file = openSync(path, 'r');
    try {
      return buffer.subarray(0, readSync(file, buffer, 0, buffer.length, from)).toString('utf8');
    } finally {
      closeSync(file);
    }
  };

  return {
    path,
    since,
    tail: (lines) => since(start, TAIL_BYTES).trimEnd().split('\n').slice(-lines).join('\n'),
    size,
    bound() {
      if (size() <= LOG_BYTES_MAX) return;
      truncateSync(path, 0);
      start = 0;
    },
  };
}
