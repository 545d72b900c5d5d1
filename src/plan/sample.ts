// The sources of a plan: whole where they are small, else their beginning, which is enough to count by.
import type { Source } from '../contracts/data-spec.ts';
import type { Snapshot } from '../contracts/records.ts';
import { freezeSources } from '../data/snapshot.ts';
import type { Opened } from '../data/source/openings.ts';
import type { SourceContext } from '../data/sources.ts';
import type { ObjectStore } from '../storage/object-store.ts';

/** Of each source, bytes: some hundred thousand rows, which are tokenised in half a minute. */
const SAMPLE_BYTES_MAX = 32 * 1024 ** 2;

export interface Sample {
  /** As the stage ingest makes it, of the beginnings. */
  snapshot: Snapshot;
  /** Bytes of all sources ÷ those of the sample; 1 = all was read. null where it is not known how much there is. */
  factor: number | null;
}

interface Beginning {
  bytes: number;
  isCut: boolean;
  wholeBytes: number | null;
}

export async function sampleSources(
  store: ObjectStore,
  sources: Source[],
  ctx: SourceContext,
  signal?: AbortSignal,
  bytesMax = SAMPLE_BYTES_MAX,
): Promise<Sample> {
  const beginnings: Beginning[] = [];
  const take = (opened: Opened, openings: number): Opened => {
    const beginning: Beginning = { bytes: 0, isCut: false, wholeBytes: opened.sizeBytes };
    beginnings.push(beginning);
    // A JSON array has no end to cut at.
    if (opened.format === 'json') return { ...opened, bytes: count(opened.bytes, beginning) };
    return { ...opened, bytes: count(cutAtRow(opened.bytes, Math.ceil(bytesMax / openings), beginning), beginning) };
  };
  const { snapshot } = await freezeSources(store, sources, ctx, () => undefined, signal, { take });
  return { snapshot, factor: factorOf(beginnings) };
}

function factorOf(beginnings: Beginning[]): number | null {
  let read = 0;
  let whole = 0;
  for (const { bytes, isCut, wholeBytes } of beginnings) {
    if (isCut && wholeBytes === null) return null;
    read += bytes;
    whole += isCut ? (wholeBytes ?? 0) : bytes;
  }
  return Math.max(1, whole / read);
}

async function* count(bytes: AsyncIterable<Uint8Array>, beginning: Beginning): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    beginning.bytes += piece.length;
    yield piece;
  }
}

/** Whole lines only, and at least one: what comes after a line's end is held back until the next. */
async function* cutAtRow(
  bytes: AsyncIterable<Uint8Array>,
  bytesMax: number,
  beginning: Beginning,
): AsyncGenerator<Uint8Array> {
  let room = bytesMax;
  let hasRow = false;
  let held: Uint8Array[] = [];
  for await (const piece of bytes) {
    let end = piece.subarray(0, Math.max(0, room)).lastIndexOf(10) + 1;
    if (end === 0 && !hasRow) end = piece.indexOf(10) + 1 || piece.length;
    hasRow ||= piece.subarray(0, end).includes(10);
    room -= piece.length;
    if (end > 0) {
      yield* held;
      yield piece.subarray(0, end);
      held = [];
    }
    if (room < 0 && hasRow) {
      beginning.isCut = true;
      return;
    }
    if (end < piece.length) held.push(Uint8Array.from(piece.subarray(end)));
  }
  yield* held;
}
