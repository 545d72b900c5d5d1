// Reads the JSONL files of a folder, and says what it means that one cannot be written.
import { createReadStream } from 'node:fs';
import { AnnealError } from '../contracts/failure.ts';
import { createLineCutter } from './lines.ts';

/** The lines of a file that this program wrote. */
export async function* readLines(path: string): AsyncGenerator<string> {
  const cutter = createLineCutter(Number.POSITIVE_INFINITY);
  let lines: string[] = [];
  const take = ({ bytes }: { bytes: Buffer }) => void lines.push(bytes.toString('utf8'));
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    cutter.push(chunk as Buffer, take);
    yield* lines;
    lines = [];
  }
  cutter.end(take);
  yield* lines;
}

export function writeError(error: NodeJS.ErrnoException, path: string): unknown {
  if (error.code !== 'ENOSPC' && error.code !== 'EDQUOT') return error;
  return new AnnealError(
    'disk_full',
    `No space is left for ${path} (${error.code}); free some, or give the data worker a larger disk.`,
    { cause: error },
  );
}
