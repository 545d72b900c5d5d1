// Cuts a snapshot into ranges: stretches of large sources, and small sources together. A pure function of the snapshot, but for the
// pins and the evaluation suites, which are taken here so that all that follows is one.
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { type Source, suitesOf } from '../../contracts/data-spec.ts';
import { AnnealError } from '../../contracts/failure.ts';
import type { Piece, RangePlan } from '../../contracts/ranges.ts';
import type { FrozenSource, Snapshot } from '../../contracts/records.ts';
import { PART_BYTES_MAX } from '../../storage/object-store.ts';
import { planCsvCuts } from '../range/csv-cuts.ts';
import { pinsFor } from '../resolve/pins.ts';
import { freezeSources } from '../snapshot.ts';
import { countLinesBefore, readSource } from '../source-bytes.ts';
import type { PreparationHost, PreparationInput } from './host.ts';
import { loadSnapshot } from './snapshots.ts';

export interface RangeLimits {
  /** A range's size at most, bytes. */
  bytes: number;
  /** The same when there would be too many ranges. */
  bytesMax: number;
  /** Pieces start at multiples of it, bytes. */
  align: number;
  /** Ranges of a run: each is an activity or two in its history. */
  count: number;
  /** Sources of a range at most: each takes some 20 ms, however small, and several workers share thousands of them. */
  pieces: number;
}

export const RANGE_LIMITS: RangeLimits = {
  bytes: 4 * PART_BYTES_MAX,
  bytesMax: 8 * PART_BYTES_MAX,
  align: PART_BYTES_MAX,
  count: 1_000,
  pieces: 250,
};

/** Ranges that one process prepares at once: each has a thread, or a tokeniser with its share of the cores. */
export function rangesAtOnce(): number {
  return Math.max(2, Math.floor(availableParallelism() / 2));
}

/** @throws AnnealError `data_rejected` for a CSV header that cannot be used, and for more data than one run takes. */
export async function planRanges(
  host: PreparationHost,
  { spec, snapshot: digest, suites }: PreparationInput,
  limits: RangeLimits = RANGE_LIMITS,
): Promise<RangePlan> {
  const snapshot = await loadSnapshot(host.store, digest);
  const bytes = await rangeBytes(snapshot, limits);
  const pieces: { piece: Piece; sizeBytes: number }[] = [];
  for (const [i, source] of snapshot.sources.entries()) {
    host.report({ phase: `cut source ${i + 1} of ${snapshot.sources.length} into ranges` });
    for (const piece of await cutSource(host, source, i, { ...limits, bytes })) {
      pieces.push({ piece, sizeBytes: (piece.endOffset ?? source.sizeBytes) - piece.startOffset });
    }
  }
  return {
    snapshot: digest,
    ranges: packPieces(pieces, { ...limits, bytes }),
    pins: await pinsFor(host.store, spec, digest),
    suites: suites === undefined ? await freezeSuites(host, suitesOf(spec.data)) : suites,
  };
}

/** @throws AnnealError `data_rejected` when even the largest ranges are too many. */
async function rangeBytes({ sources }: Snapshot, limits: RangeLimits): Promise<number> {
  const total = sources.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const most = limits.count * limits.bytesMax;
  if (total > most) {
    throw new AnnealError(
      'data_rejected',
      `The sources have ${total} bytes together, more than the ${most} that one run takes; name fewer of them.`,
    );
  }
  return total > (limits.count * limits.bytes) / 2 ? limits.bytesMax : limits.bytes;
}

async function cutSource(
  host: PreparationHost,
  source: FrozenSource,
  index: number,
  limits: RangeLimits,
): Promise<Piece[]> {
  const whole = { source: index, startOffset: 0, endOffset: null, firstLine: 1, header: null };
  const wished = wishedOffsets(source, limits);
  if (wished.length === 0) return [whole];
  if (source.format === 'jsonl') {
    const lines = await countLinesBefore(host.store, source, wished);
    return toPieces(
      whole,
      wished.map((offset, i) => ({ offset, line: 1 + (lines[i] as number) })),
      null,
    );
  }
  const { cuts, header } = await planCsvCuts(watched(host, source), wished, basename(source.uri));
  return toPieces(whole, cuts, header);
}

/** The source's bytes, which are reported, and which end when the work is cancelled. */
async function* watched({ store, signal, report }: PreparationHost, source: FrozenSource): AsyncGenerator<Uint8Array> {
  let read = 0;
  for await (const bytes of readSource(store, source)) {
    signal.throwIfAborted();
    yield bytes;
    read += bytes.length;
    report({ phase: `look for records in ${basename(source.uri)}`, step: read, of: source.sizeBytes });
  }
}

/** Where a source is best cut; a JSON array is one piece. */
function wishedOffsets({ sizeBytes, format }: FrozenSource, { bytes, align }: RangeLimits): number[] {
  const count = format === 'json' ? 1 : Math.max(1, Math.ceil(sizeBytes / bytes));
  const stride = Math.ceil(sizeBytes / count / align) * align;
  const offsets: number[] = [];
  for (let offset = stride; count > 1 && offset < sizeBytes; offset += stride) offsets.push(offset);
  return offsets;
}

function toPieces(whole: Piece, cuts: { offset: number; line: number }[], header: Piece['header']): Piece[] {
  const starts = [{ offset: 0, line: 1 }, ...cuts];
  return starts.map(({ offset, line }, i) => ({
    ...whole,
    startOffset: offset,
    endOffset: starts[i + 1]?.offset ?? null,
    firstLine: line,
    header: i === 0 ? null : header,
  }));
}

/** Pieces in order, several to a range as long as they are small together. */
function packPieces(pieces: { piece: Piece; sizeBytes: number }[], limits: RangeLimits): Piece[][] {
  const ranges: Piece[][] = [];
  let room = -1;
  for (const { piece, sizeBytes } of pieces) {
    if (sizeBytes > room || ranges.at(-1)?.length === limits.pieces) {
      ranges.push([]);
      room = limits.bytes;
    }
    ranges.at(-1)?.push(piece);
    room -= sizeBytes;
  }
  return ranges;
}

/** The suites as they are now: what the rows are compared with does not change under way. */
async function freezeSuites({ store, sources, signal }: PreparationHost, suites: Source[]): Promise<string | null> {
  if (suites.length === 0) return null;
  return (await freezeSources(store, suites, sources, () => undefined, signal)).snapshot.digest;
}
