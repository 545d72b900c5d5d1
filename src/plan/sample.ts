// The sources of a plan: whole where they are small, else their beginnings, which are enough to count by. However much there is, so many
// bytes of so many files are read at most.
import type { z } from 'zod';
import type { Source } from '../contracts/data-spec.ts';
import { AnnealError, type Problem } from '../contracts/failure.ts';
import type { Snapshot } from '../contracts/records.ts';
import { showUri } from '../contracts/source-uri.ts';
import type { Spec } from '../contracts/spec.ts';
import { TooManyImages } from '../data/media/freeze.ts';
import { countNewlines } from '../data/rows-read.ts';
import { type FreezeOptions, freezeSources } from '../data/snapshot.ts';
import { unpackedName } from '../data/source/compression.ts';
import { EmptySource } from '../data/source/content.ts';
import type { Opened, Opening } from '../data/source/openings.ts';
import { TooLargeToCopy } from '../data/source/temporary-copy.ts';
import type { SourceContext } from '../data/sources.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { endOfRows } from './row-ends.ts';

/** Of each source, bytes: some thousand chats, or seventy thousand rows of one line, which are cleaned and tokenised in seconds. */
const SAMPLE_BYTES_MAX = 4 * 1024 ** 2;
/** Of each file: a minute's reading from a slow server. */
const IMAGES_MAX = 500;
/** A sample whose rows name more images is made so many times smaller. */
const FEWER = 8;
/** Files of each source that are looked into: each costs a request. */
const FILES_MAX = 64;
/** Of tables, which can only be looked into when they are copied whole. */
const TABLES_MAX = 4;
/** Of a table elsewhere, bytes: a minute's download. */
const COPY_BYTES_MAX = 256 * 1024 ** 2;

export interface Sample {
  /** As the stage ingest makes it, of the beginnings. */
  snapshot: Snapshot;
  /** Those that were looked into. */
  sources: Source[];
  /** Bytes of all sources ÷ those of the sample; 1 = all was read. null where it is not known how much there is. */
  factor: number | null;
  /** What was estimated from what, and what was left out; one sentence each. */
  notes: string[];
}

export interface SampleOptions {
  store: ObjectStore;
  spec: Pick<Spec, 'data' | 'train'>;
  ctx: SourceContext;
  signal?: AbortSignal;
  bytesMax?: number;
  copyBytesMax?: number;
}

/** What was read of one source. */
interface Look {
  source: Source;
  files: number;
  beginnings: Beginning[];
  /** Addresses of tables that are too large to be copied. */
  leftOut: string[];
}

interface Beginning {
  bytes: number;
  isCut: boolean;
  /** null = nobody knows. */
  wholeBytes: number | null;
}

type Remember = NonNullable<FreezeOptions['remember']>;

/** @throws AnnealError with a problem for each source that cannot be read. */
export async function sampleSources(options: SampleOptions): Promise<Sample> {
  const { store, spec, ctx, signal, bytesMax = SAMPLE_BYTES_MAX, copyBytesMax = COPY_BYTES_MAX } = options;
  const bounded: SourceContext = { ...ctx, copyBytesMax, estimates: true };
  const seen = new Map<string, unknown>();
  const looks: Look[] = [];
  const problems: Problem[] = [];
  for (const [i, source] of spec.data.sources.entries()) {
    const look: Look = { source, files: 0, beginnings: [], leftOut: [] };
    try {
      await lookWithin(look, { store, spec, ctx: bounded, signal, bytesMax }, seen);
      looks.push(look);
    } catch (error) {
      if (!(error instanceof AnnealError)) throw error;
      problems.push({ path: `data.sources[${i}]`, message: error.message });
    }
  }
  if (problems.length > 0)
    throw new AnnealError('bad_request', problems.map(({ message }) => message).join(' '), { problems });
  const read = looks.filter(({ beginnings }) => beginnings.length > 0).map(({ source }) => source);
  const again = { choose: chooseFiles, remember: recall(seen), spec };
  const { snapshot } = await freezeSources(store, read, bounded, () => undefined, signal, again);
  return {
    snapshot,
    sources: read,
    factor: factorOf(looks),
    notes: looks.flatMap((look) => notesOf(look, copyBytesMax)),
  };
}

interface Looking {
  store: ObjectStore;
  spec: Pick<Spec, 'data' | 'train'>;
  ctx: SourceContext;
  signal: AbortSignal | undefined;
  bytesMax: number;
}

/** Into fewer rows where those name too many images. */
async function lookWithin(look: Look, looking: Looking, seen: Map<string, unknown>): Promise<void> {
  try {
    await lookInto(look, looking, seen);
  } catch (error) {
    if (!(error instanceof TooManyImages) || looking.bytesMax === 1) throw error;
    Object.assign(look, { beginnings: [], leftOut: [] });
    await lookWithin(look, { ...looking, bytesMax: Math.ceil(looking.bytesMax / FEWER) }, seen);
  }
}

/** @param seen what was made of each file, to be found again. */
async function lookInto(
  look: Look,
  { store, spec, ctx, signal, bytesMax }: Looking,
  seen: Map<string, unknown>,
): Promise<void> {
  const choose = (openings: Opening[]) => {
    look.files = openings.length;
    return chooseFiles(openings);
  };
  const take = (opened: Opened, openings: number): Opened => {
    const beginning: Beginning = { bytes: 0, isCut: false, wholeBytes: null };
    look.beginnings.push(beginning);
    return { ...opened, bytes: readBeginning(opened, Math.ceil(bytesMax / openings), beginning) };
  };
  const remember: Remember = async (input, schema, work) => {
    try {
      const made = await work();
      seen.set(JSON.stringify(input), made);
      return made;
    } catch (error) {
      if (!(error instanceof TooLargeToCopy)) throw error;
      look.beginnings.pop();
      look.leftOut.push(error.uri);
      const nothing = { entry: null, origins: [], watermark: null, newRows: 0 } as z.output<typeof schema>;
      seen.set(JSON.stringify(input), nothing);
      return nothing;
    }
  };
  const options = { choose, take, remember, spec, imageLimits: { images: IMAGES_MAX } };
  await freezeSources(store, [look.source], ctx, () => undefined, signal, options).catch((error: unknown) => {
    if (!(error instanceof EmptySource) || look.leftOut.length === 0) throw error;
  });
}

/** Evenly over all of them, in their order. */
function chooseFiles(openings: Opening[]): Opening[] {
  const hasTables = openings.some(({ name }) => /\.(parquet|db|sqlite3?)$/i.test(unpackedName(name)));
  const most = hasTables ? TABLES_MAX : FILES_MAX;
  if (openings.length <= most) return openings;
  return Array.from({ length: most }, (_, i) => openings[Math.floor((i * openings.length) / most)] as Opening);
}

function recall(seen: Map<string, unknown>): Remember {
  return async (input, schema, work) => {
    const known = seen.get(JSON.stringify(input));
    return known === undefined ? await work() : (known as z.output<typeof schema>);
  };
}

/** Whole rows only, and at least one. */
async function* readBeginning(opened: Opened, bytesMax: number, beginning: Beginning): AsyncGenerator<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  let limit = bytesMax;
  let end: number | null = null;
  for await (const piece of opened.bytes) {
    size += piece.length;
    if (end !== null) continue;
    pieces.push(Uint8Array.from(piece));
    if (size <= limit) continue;
    const head = Buffer.concat(pieces);
    const rows = endOfRows(head, opened.format, bytesMax);
    if (rows === null) {
      limit = 2 * size;
      continue;
    }
    ({ end } = rows);
    beginning.isCut = true;
    beginning.bytes = end;
    yield head.subarray(0, end);
    yield rows.closing;
    beginning.wholeBytes = opened.sizeBytes ?? wholeOf(opened, size, countNewlines(head, 0, end), end);
    // Where everything packed is read already, the rest of it tells how much there is.
    if (opened.share() !== 1 || opened.sizeBytes !== null) return;
  }
  if (end === null) {
    beginning.bytes = size;
    beginning.wholeBytes = size;
    yield* pieces;
  } else beginning.wholeBytes ??= size;
}

/** By the share of the packed bytes that went into so many, or by the rows that its server estimates. */
function wholeOf({ share, rowsEstimated }: Opened, size: number, rows: number, end: number): number | null {
  const read = share();
  if (read !== null && read < 1) return size / read;
  const estimated = rowsEstimated();
  return estimated === null || rows === 0 ? null : (end * Math.max(estimated, rows)) / rows;
}

function factorOf(looks: Look[]): number | null {
  let read = 0;
  let whole = 0;
  for (const { files, beginnings } of looks) {
    if (beginnings.length === 0) return null;
    const known = beginnings.map(({ wholeBytes }) => wholeBytes);
    if (known.includes(null)) return null;
    read += beginnings.reduce((sum, { bytes }) => sum + bytes, 0);
    whole += ((known as number[]).reduce((sum, bytes) => sum + bytes, 0) * files) / beginnings.length;
  }
  return Math.max(1, whole / read);
}

function notesOf({ source, files, beginnings, leftOut }: Look, copyBytesMax: number): string[] {
  const uri = showUri(source.uri);
  const all = `${uri} has ${files} files`;
  return [
    ...(beginnings.length > 0 && beginnings.length < files
      ? [`${all}, of which ${beginnings.length} were looked into.`]
      : []),
    ...leftOut.map(
      (address) => `${address} was left out: tables above ${copyBytesMax} bytes are not copied for a plan.`,
    ),
    ...(source.follow && source.follow.mode === 'new'
      ? [`${uri} is followed: a run takes what is new of it, the plan counts all.`]
      : []),
  ];
}
