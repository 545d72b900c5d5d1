// Freezes the sources of a run: every byte that later stages read is here, under its digest.
import { createHash } from 'node:crypto';
import type { Source } from '../contracts/data-spec.ts';
import type { Snapshot } from '../contracts/records.ts';
import { canonicalJson, digestOf } from '../storage/digest.ts';
import { putBlob } from '../storage/file-set.ts';
import { keys } from '../storage/keys.ts';
import { type ObjectStore, PART_BYTES_MAX } from '../storage/object-store.ts';
import { openSource, type SourceContext } from './sources.ts';

type FrozenSource = Snapshot['sources'][number];

export interface IngestProgress {
  /** 1-based number of the source, and how many there are. */
  source: number;
  of: number;
  uri: string;
  bytesRead: number;
  /** null where the source does not say. */
  sizeBytes: number | null;
}

/**
 * Reads each source once, from its start to its end, into parts of the store. Idempotent: the same bytes give the same snapshot.
 * Memory: one part. The digest does not depend on where the sources lie.
 */
export async function takeSnapshot(
  store: ObjectStore,
  sources: Source[],
  ctx: SourceContext,
  onProgress: (progress: IngestProgress) => void,
  signal?: AbortSignal,
): Promise<Snapshot> {
  const frozen: FrozenSource[] = [];
  for (const [i, source] of sources.entries()) {
    const report = (uri: string, bytesRead: number, sizeBytes: number | null) =>
      onProgress({ source: i + 1, of: sources.length, uri, bytesRead, sizeBytes });
    frozen.push(await freezeSource(store, source, ctx, report, signal));
  }
  const digest = digestOf(frozen.map(({ sha256, format, shape }) => ({ sha256, format, shape })));
  const snapshot: Snapshot = { digest, sources: frozen };
  // Another run may have frozen the same bytes from elsewhere; its record stays, ours differs in the addresses only.
  await store.putIfAbsent(keys.snapshot(digest), Buffer.from(canonicalJson(snapshot)));
  return snapshot;
}

async function freezeSource(
  store: ObjectStore,
  source: Source,
  ctx: SourceContext,
  report: (uri: string, bytesRead: number, sizeBytes: number | null) => void,
  signal?: AbortSignal,
): Promise<FrozenSource> {
  const { uri, format, etag, sizeBytes: announced, bytes } = await openSource(source, ctx, signal);
  const whole = createHash('sha256');
  const parts: string[] = [];
  let sizeBytes = 0;
  report(uri, 0, announced);
  for await (const part of cutParts(bytes)) {
    whole.update(part);
    parts.push(await putBlob(store, part));
    sizeBytes += part.length;
    report(uri, sizeBytes, announced);
  }
  return { uri, format, shape: source.shape, sizeBytes, sha256: whole.digest('hex'), parts, etag };
}

/** Parts of exactly `PART_BYTES_MAX`, but for the last. A part is valid until the next is asked for. */
async function* cutParts(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const part = Buffer.allocUnsafeSlow(PART_BYTES_MAX);
  let filled = 0;
  for await (const piece of bytes) {
    for (let at = 0; at < piece.length; ) {
      const taken = piece.subarray(at, at + PART_BYTES_MAX - filled);
      part.set(taken, filled);
      filled += taken.length;
      at += taken.length;
      if (filled === PART_BYTES_MAX) {
        yield part;
        filled = 0;
      }
    }
  }
  if (filled > 0) yield part.subarray(0, filled);
}
