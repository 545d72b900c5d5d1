// What sources are opened with: the data worker's folders, its store, its limits.
import type { ListS3, ReadS3 } from './s3.ts';

/** Largest source, bytes: a thousand ranges of 256 MiB, the most that a run has. */
export const SOURCE_BYTES_MAX = 256 * 1024 ** 3;

export interface SourceContext {
  /** Folder that `example:` sources are read from. */
  examplesFolder: string;
  readS3: ReadS3;
  /** Of prefixes and patterns; absent = such sources are refused. */
  listS3?: ListS3;
  /** Folder that files must lie in, links followed; absent or null = anywhere. */
  root?: string | null;
  /** Where files are put that can only be read from a disk; absent = the system's own place. */
  temporaryFolder?: string;
  /** Instead of the limits that hold else. */
  bytesMax?: number;
  /** Larger files that can only be read from a disk are refused with `TooLargeToCopy`; absent = the disk's own limit. */
  copyBytesMax?: number;
  /** Databases are asked how many rows they think there are. */
  estimates?: boolean;
  answerTimeoutMs?: number;
  idleTimeoutMs?: number;
}
