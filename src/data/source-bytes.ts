// Reads the bytes of a frozen source from a place on. Its parts are all of `PART_BYTES_MAX` but the last.
import type { FrozenSource } from '../contracts/records.ts';
import { getBlob } from '../storage/file-set.ts';
import { type ObjectStore, PART_BYTES_MAX } from '../storage/object-store.ts';
import { returnMemory, takeMemory } from '../storage/part-memory.ts';
import { countNewlines } from './rows-read.ts';

/**
 * A part is valid until the next is asked for, or as long as the memory is that it was read into.
 * @param endPart the first part that is not read. @param into gives memory for a part.
 */
export async function* readSource(
  store: ObjectStore,
  { parts }: Pick<FrozenSource, 'parts'>,
  startOffset = 0,
  endPart: number = parts.length,
  into?: () => Uint8Array,
): AsyncGenerator<Uint8Array> {
  const first = partOf(startOffset);
  const own = into === undefined ? takeMemory(PART_BYTES_MAX) : null;
  try {
    for (let part = first; part < endPart; part++) {
      const bytes = await getBlob(store, parts[part] as string, own ?? into?.());
      yield part === first ? bytes.subarray(startOffset % PART_BYTES_MAX) : bytes;
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
