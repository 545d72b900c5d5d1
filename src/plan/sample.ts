// The sources of a plan: whole where they are small, else their beginning, which is enough to count by.
import { createWriteStream } from 'node:fs';
import { mkdir, open, truncate } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { finished } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import type { Source } from '../contracts/data-spec.ts';
import { showUri } from '../contracts/source-uri.ts';
import { openSource, type SourceContext } from '../data/sources.ts';

/** Of each source, bytes: some hundred thousand rows, which are tokenised in half a minute. */
const SAMPLE_BYTES_MAX = 32 * 1024 ** 2;
/** Looked through backwards for the last row's end, bytes: the longest row that is allowed. */
const TAIL_BYTES = 1024 ** 2;

export interface Sample {
  /** Local copies. */
  sources: Source[];
  /** Bytes of all sources ÷ those of the sample; 1 = all was read. null where a server does not say how much there is. */
  factor: number | null;
}

export async function sampleSources(
  sources: Source[],
  ctx: SourceContext,
  folder: string,
  signal?: AbortSignal,
  bytesMax = SAMPLE_BYTES_MAX,
): Promise<Sample> {
  const copies: Copy[] = [];
  for (const [i, source] of sources.entries())
    copies.push(await copyBeginning(source, ctx, join(folder, String(i)), bytesMax, signal));
  const sizes = copies.map(({ wholeBytes }) => wholeBytes);
  const read = copies.reduce((sum, { bytes }) => sum + bytes, 0);
  const whole = sizes.includes(null) ? null : sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
  return { sources: copies.map(({ source }) => source), factor: whole === null ? null : Math.max(1, whole / read) };
}

interface Copy {
  source: Source;
  bytes: number;
  wholeBytes: number | null;
}

async function copyBeginning(
  source: Source,
  ctx: SourceContext,
  folder: string,
  bytesMax: number,
  signal?: AbortSignal,
): Promise<Copy> {
  const { format, sizeBytes, bytes } = await openSource(source, ctx, signal);
  await mkdir(folder, { recursive: true });
  const path = join(folder, basename(showUri(source.uri)));
  const target = createWriteStream(path);
  let written = 0;
  let isCut = false;
  // A JSON array has no end to cut at.
  const room = format === 'json' ? Number.POSITIVE_INFINITY : bytesMax;
  for await (const piece of bytes) {
    const taken = piece.subarray(0, room - written);
    if (!target.write(taken)) await new Promise<void>((drained) => target.once('drain', drained));
    written += taken.length;
    isCut = taken.length < piece.length;
    if (isCut) break;
  }
  await finished(target.end());
  const copy = { ...source, uri: pathToFileURL(path).href, format };
  if (!isCut) return { source: copy, bytes: written, wholeBytes: written };
  return { source: copy, bytes: await cutAtRow(path, written), wholeBytes: sizeBytes };
}

/** Leaves whole lines only. */
async function cutAtRow(path: string, sizeBytes: number): Promise<number> {
  const file = await open(path);
  const start = Math.max(0, sizeBytes - TAIL_BYTES);
  const { buffer, bytesRead } = await file
    .read(Buffer.alloc(sizeBytes - start), 0, sizeBytes - start, start)
    .finally(() => file.close());
  const end = start + buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
  if (end > start) await truncate(path, end);
  return end > start ? end : sizeBytes;
}
