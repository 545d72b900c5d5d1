// Freezes the sources of a run: every byte that later stages read is here, under its digest.

import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Source } from '../contracts/data-spec.ts';
import { plural } from '../contracts/plural.ts';
import {
  type FrozenSource,
  FrozenSourceSchema,
  type Ingested,
  type Mark,
  MarkSchema,
  type Snapshot,
} from '../contracts/records.ts';
import type { Spec } from '../contracts/spec.ts';
import { canonicalJson, digestOf } from '../storage/digest.ts';
import { putBlob } from '../storage/file-set.ts';
import { inLanes } from '../storage/in-lanes.ts';
import { keys } from '../storage/keys.ts';
import { type ObjectStore, PART_BYTES_MAX } from '../storage/object-store.ts';
import { returnMemory, takeMemory } from '../storage/part-memory.ts';
import { type Mapping, mappingOf } from './mapping.ts';
import { freezeImages, type ImageLimits, type Remember } from './media/freeze.ts';
import { createMediaLoader } from './media/load.ts';
import { mayNameImages, SIGN_BYTES } from './media/named.ts';
import { countNewlines } from './rows-read.ts';
import { EmptySource } from './source/content.ts';
import { type Follower, takeFollowed } from './source/follow.ts';
import { identifyFiles } from './source/identity.ts';
import { type Opened, type Opening, planOpenings } from './source/openings.ts';
import { HEAD_BYTES } from './source-bytes.ts';
import type { SourceContext } from './sources.ts';

export interface IngestProgress {
  /** 1-based number of the source, and how many there are. */
  source: number;
  of: number;
  uri: string;
  bytesRead: number;
  /** null where the source does not say. */
  sizeBytes: number | null;
}

/** Files of one source that are read at once: a small one is little but the store's answers. Each takes a part of memory. */
const FILES_AT_ONCE = 4;

const forgetful: Remember = async (_input, _schema, work) => await work();

/** What became of one file of a source. */
const FrozenFileSchema = z.object({
  /** null = it is empty. */
  entry: FrozenSourceSchema.nullable(),
  origins: z.array(z.object({ name: z.string(), sha256: z.string() })),
  watermark: MarkSchema.shape.watermark,
  newRows: z.int(),
});
type FrozenFile = z.infer<typeof FrozenFileSchema>;

export interface FreezeOptions {
  /** Absent = nothing is remembered. */
  remember?: Remember;
  /** Which of them are read; absent = all. */
  choose?: (openings: Opening[]) => Opening[];
  /** By what its rows are read; absent = they are evaluation suites, whose images nobody looks at. */
  spec?: Pick<Spec, 'data' | 'train'>;
  /** Instead of the limits that hold else. */
  imageLimits?: ImageLimits;
  /** What is taken of what was opened, of a source with so many openings; absent = everything. */
  take?: (opened: Opened, openings: number) => Opened;
  /** For whom followed sources are taken; absent = as if nobody had taken them before. */
  follower?: Follower;
}

export interface FrozenSources {
  snapshot: Snapshot;
  /** By source of the spec. */
  contents: Ingested['content'][];
  notes: string[];
}

/** The snapshot of a spec's sources alone: for those who remember nothing. */
export async function takeSnapshot(
  store: ObjectStore,
  spec: Pick<Spec, 'data' | 'train'>,
  ctx: SourceContext,
  onProgress: (progress: IngestProgress) => void,
  signal?: AbortSignal,
): Promise<Snapshot> {
  return (await freezeSources(store, spec.data.sources, ctx, onProgress, signal, { spec })).snapshot;
}

/**
 * Reads each source once, from its start to its end, into parts of the store. Idempotent: the same bytes give the same snapshot.
 * Memory: a part for each file that is read. The digest does not depend on where the sources lie.
 */
export async function freezeSources(
  store: ObjectStore,
  sources: Source[],
  ctx: SourceContext,
  onProgress: (progress: IngestProgress) => void,
  signal?: AbortSignal,
  options: FreezeOptions = {},
): Promise<FrozenSources> {
  const all: Ingested[] = [];
  for (const [i, source] of sources.entries()) {
    const report = (uri: string, bytesRead: number, sizeBytes: number | null) =>
      onProgress({ source: i + 1, of: sources.length, uri, bytesRead, sizeBytes });
    all.push(await ingestSource({ store, source, ctx, report, signal, options }));
  }
  const entries = all
    .flatMap(({ entries: own }, from) => own.map((entry) => ({ ...entry, from })))
    .map(({ from, ...entry }, at) => (from === at ? entry : { ...entry, from }));
  const digest = digestOf(
    entries.map(({ sha256, format, shape, split, images, ...more }) => ({
      ...{ sha256, format, shape, split, images },
      from: (more as FrozenSource).from,
    })),
  );
  const snapshot: Snapshot = { digest, sources: entries };
  // Another run may have frozen the same bytes from elsewhere; its record stays, ours differs in the addresses only.
  await store.putIfAbsent(keys.snapshot(digest), Buffer.from(canonicalJson(snapshot)));
  return { snapshot, contents: all.map(({ content }) => content), notes: all.flatMap(({ notes }) => notes) };
}

/** The source of the spec that an entry of the snapshot came from. */
export function specSourceOf(sources: Source[], snapshot: Snapshot, entry: number): Source {
  return sources[snapshot.sources[entry]?.from ?? entry] as Source;
}

interface Reading {
  store: ObjectStore;
  source: Source;
  ctx: SourceContext;
  report: (uri: string, bytesRead: number, sizeBytes: number | null) => void;
  signal: AbortSignal | undefined;
  options: FreezeOptions;
}

async function ingestSource(reading: Reading): Promise<Ingested> {
  const { store, source, options } = reading;
  if (!source.follow || options.follower === undefined) return (await readSource(reading, null)).ingested;
  return await takeFollowed(store, options.follower, source, (after) => readSource(reading, after));
}

async function readSource(reading: Reading, after: Mark | null): Promise<{ ingested: Ingested; mark: Mark }> {
  const { source, ctx, signal, options } = reading;
  const { take = (opened) => opened, remember = forgetful } = options;
  const { openings: all, isMany, files, notes } = await planOpenings(source, ctx, after, signal);
  const openings = options.choose?.(all) ?? all;
  const frozen: FrozenFile[] = [];
  // Who takes a part of each file counts them one after the other.
  const lanes = options.take === undefined ? FILES_AT_ONCE : 1;
  await inLanes(openings.entries(), lanes, async ([i, opening]) => {
    const input = { source, name: opening.name, etag: opening.etag, after };
    const open = async () => take(await opening.open(signal), openings.length);
    const work = async () => await freezeOpened(reading, opening, await open());
    frozen[i] = await remember(input, FrozenFileSchema, work);
  });
  const empty = openings.filter((_, i) => frozen[i]?.entry === null).map(({ uri }) => uri);
  const isNewOnly = source.follow && source.follow.mode === 'new' && after !== null;
  if (empty.length === openings.length && !isNewOnly) throw new EmptySource(empty[0] ?? source.uri);
  const watermark = frozen.find((file) => file.watermark !== null)?.watermark ?? after?.watermark ?? null;
  const newRows = frozen[0]?.newRows ?? 0;
  const told = after !== null && watermark !== null ? [plural(newRows, 'new row')] : [];
  return {
    ingested: {
      entries: frozen.flatMap(({ entry }) => entry ?? []),
      content: contentOf(frozen, openings, isMany),
      notes: [...notes, ...told, ...(isMany ? empty.map((uri) => `${uri} is empty`) : [])],
    },
    mark: { files, watermark },
  };
}

/** By the bytes at the source where they are known: then whoever can read it finds the same without converting anything. */
function contentOf(frozen: FrozenFile[], openings: Opening[], isMany: boolean): Ingested['content'] {
  const entries = frozen.flatMap(({ entry }) => entry ?? []);
  const [first] = frozen;
  const images = entries.flatMap((entry) => entry.images ?? []);
  // What lies at the addresses that rows name is part of it, and no ETag tells when that changes.
  if (images.length > 0) return { sha256: digestOf([frozen.flatMap(({ origins }) => origins), images]), etag: null };
  if (!isMany)
    return { sha256: first?.origins[0]?.sha256 ?? entries[0]?.sha256 ?? digestOf([]), etag: entries[0]?.etag ?? null };
  const isKnown = openings.every(({ etag }) => etag !== null);
  return {
    sha256: identifyFiles(frozen.flatMap(({ origins }) => origins)),
    etag: isKnown ? identifyFiles(openings.map(({ name, etag }) => ({ name, sha256: etag as string }))) : null,
  };
}

async function freezeOpened(
  reading: Reading,
  opening: Opening,
  { uri, format, etag, versionId = null, sizeBytes: announced, bytes, ...opened }: Opened,
): Promise<FrozenFile> {
  const { store, source, report, options } = reading;
  const mapping = options.spec === undefined ? null : mappingOf(options.spec, source);
  let [tail, hasImages] = [Buffer.alloc(0), false];
  const whole = createHash('sha256');
  const parts: string[] = [];
  const newlines: number[] = [];
  const heads: string[] = [];
  let sizeBytes = 0;
  report(uri, 0, announced);
  try {
    for await (const part of cutParts(bytes, (bytesRead) => report(uri, bytesRead, announced))) {
      whole.update(part);
      parts.push(await putBlob(store, part));
      newlines.push(countNewlines(part));
      if (parts.length > 1) heads.push(await putBlob(store, part.subarray(0, HEAD_BYTES)));
      hasImages ||= mapping !== null && mayNameImages(part, tail, format, mapping);
      tail = Buffer.from(part.subarray(-SIGN_BYTES));
      sizeBytes += part.length;
    }
  } catch (error) {
    if (!(error instanceof EmptySource)) throw error;
    return { entry: null, origins: opened.origins(), watermark: opened.mark(), newRows: 0 };
  }
  const { split } = opening;
  const converted = opened.converted().join(', ');
  const entry: FrozenSource = {
    ...{ uri, format, shape: source.shape, sizeBytes, sha256: whole.digest('hex'), parts, etag, newlines, heads },
    ...(versionId !== null && { versionId }),
    ...(split !== null && { split }),
    ...(converted !== '' && { converted }),
  };
  const images = hasImages && mapping !== null ? await freezeImagesOf(reading, entry, mapping) : [];
  if (images.length > 0) entry.images = images;
  const origins = opened.origins();
  if (origins.length === 0) origins.push({ name: opening.name, sha256: entry.sha256 });
  return { entry, origins, watermark: opened.mark(), newRows: opened.newRows() };
}

async function freezeImagesOf(
  { store, source: { allowPrivate }, ctx, report, signal, options }: Reading,
  source: FrozenSource,
  mapping: Mapping,
): Promise<FrozenSource['images'] & object> {
  const { remember = forgetful, imageLimits: limits } = options;
  return await freezeImages({
    ...{ store, source, mapping, signal, remember, ...(limits && { limits }) },
    load: createMediaLoader(source.uri, ctx, allowPrivate),
    report: (images, bytesRead) => report(`${images} images of ${source.uri}`, bytesRead, source.sizeBytes),
  });
}

/** Parts of exactly `PART_BYTES_MAX`, but for the last. A part is valid until the next is asked for. */
async function* cutParts(
  bytes: AsyncIterable<Uint8Array>,
  onRead: (bytesRead: number) => void,
): AsyncGenerator<Buffer> {
  const part = takeMemory(PART_BYTES_MAX);
  let filled = 0;
  let bytesRead = 0;
  try {
    for await (const piece of bytes) {
      bytesRead += piece.length;
      onRead(bytesRead);
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
  } finally {
    returnMemory(part);
  }
}
