// Writes and reads the JSONL files of a dataset's folder.
import { createReadStream } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { AnnealError } from '../contracts/failure.ts';
import { createLineCutter } from './jsonl.ts';

/** Characters gathered before they are written. */
const FLUSH_CHARS = 256 * 1024;

export interface LineWriter {
  /** True when enough has gathered that `flush` should be awaited. */
  add(line: string): boolean;
  flush(): Promise<void>;
  close(): Promise<void>;
}

/** Creates or empties the file. @throws AnnealError `disk_full`. */
export async function openLineWriter(path: string, flags: 'w' | 'a' = 'w'): Promise<LineWriter> {
  const file = await open(path, flags);
  let gathered = '';
  const flush = async () => {
    const text = gathered;
    gathered = '';
    if (text !== '') await file.writeFile(text).catch((error) => Promise.reject(writeError(error, path)));
  };
  return {
    add(line) {
      gathered += `${line}\n`;
      return gathered.length >= FLUSH_CHARS;
    },
    flush,
    async close() {
      try {
        await flush();
      } finally {
        await file.close();
      }
    },
  };
}

/** The lines of a file that this program wrote. */
export async function* readLines(path: string): AsyncGenerator<string> {
  const cutter = createLineCutter(Number.POSITIVE_INFINITY);
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    for (const line of cutter.push(chunk as Buffer)) yield line.bytes.toString('utf8');
  }
  for (const line of cutter.end()) yield line.bytes.toString('utf8');
}

/** Keeps the lines for which `isKept` says so. The file is whole at any moment: the old one or the new one. */
export async function rewriteLines(
  path: string,
  isKept: (line: string, index: number) => Promise<boolean>,
): Promise<void> {
  const temporary = `${path}.new`;
  const out = await openLineWriter(temporary);
  try {
    let index = 0;
    for await (const line of readLines(path)) if ((await isKept(line, index++)) && out.add(line)) await out.flush();
  } finally {
    await out.close();
  }
  await rename(temporary, path);
}

function writeError(error: NodeJS.ErrnoException, path: string): unknown {
  if (error.code !== 'ENOSPC' && error.code !== 'EDQUOT') return error;
  return new AnnealError(
    'disk_full',
    `No space is left for ${path} (${error.code}); free some, or give the data worker a larger disk.`,
    { cause: error },
  );
}
