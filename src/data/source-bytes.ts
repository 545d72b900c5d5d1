// Reads the bytes of a frozen source from a place on. Its parts are all of `PART_BYTES_MAX` but the last.
import type { FrozenSource } from '../contracts/records.ts';
import { getBlob } from '../storage/file-set.ts';
import { type ObjectStore, PART_BYTES_MAX } from '../storage/object-store.ts';
import { returnMemory, takeMemory } from '../storage/part-memory.ts';
import { countNewlines } from './rows-read.ts';

/** Bytes at the start of a part that can be read without the rest: what most records need that begin in the part before. */
export const HEAD_BYTES = 64 * 1024;

interface Stretch {
  startOffset?: number;
  /** Where it ends but for its last record, which may reach over it; null = with the source. */
  endOffset?: number | null;
  /** Gives memory for a part. */
  into?: () => Uint8Array;
}

/** What is yielded is valid until more is asked for, or as long as the memory is that it was read into. */
export async function* readSource(
  store: ObjectStore,
  source: Pick<FrozenSource, 'parts' | 'heads'>,
  { startOffset = 0, endOffset = null, into }: Stretch = {},
): AsyncGenerator<Uint8Array> {
  const { parts, heads } = source;
  const own = into === undefined ? takeMemory(PART_BYTES_MAX) : null;
  try {
    let skipped = startOffset % PART_BYTES_MAX;
    for (let part = partOf(startOffset); part < endPartOf(source, endOffset); part++) {
      const head = heads?.[part - 1];
      if (
        head !== undefined &&
        skipped === 0 &&
        endOffset !== null &&
        endOffset - part * PART_BYTES_MAX <= HEAD_BYTES
      ) {
        const bytes = await getBlob(store, head);
        yield bytes;
        skipped = bytes.length;
      }
      const bytes = await getBlob(store, parts[part] as string, own ?? into?.());
      if (skipped < bytes.length) yield bytes.subarray(skipped);
      skipped = 0;
    }
  } finally {
    if (own !== null) returnMemory(own);
  }
}

export function partOf(offset: number): number {
  return Math.floor(offset / PART_BYTES_MAX);
}

/** The part behind the one in which a piece ends: its last record, which may reach over its end, has an end there. */
export function endPartOf({ parts }: Pick<FrozenSource, 'parts'>, endOffset: number | null): number {
  return endOffset === null ? parts.length : Math.min(parts.length, partOf(endOffset) + 2);
}

/** Line ends before each of the offsets, which are in order. Parts that were not counted when they were frozen are read. */
export async function countLinesBefore(store: ObjectStore, source: FrozenSource, offsets: number[]): Promise<number[]> {
  const counts: number[] = [];
  let [part, lines] = [0, 0];
  for (const offset of offsets) {
    for (; (part + 1) * PART_BYTES_MAX <= offset; part++)
      lines += source.newlines?.[part] ?? (await linesIn(store, source, part, PART_BYTES_MAX));
    const rest = offset % PART_BYTES_MAX;
    counts.push(rest === 0 ? lines : lines + (await linesIn(store, source, part, rest)));
  }
  return counts;
}

async function linesIn(store: ObjectStore, { parts }: FrozenSource, part: number, to: number): Promise<number> {
  const memory = takeMemory(PART_BYTES_MAX);
  try {
    const bytes = await getBlob(store, parts[part] as string, memory);
    return countNewlines(bytes, 0, Math.min(to, bytes.length));
  } finally {
    returnMemory(memory);
  }
}
