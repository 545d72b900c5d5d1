// Reads the images that a source's rows name by addresses once, when the source is frozen, and keeps a table of what lay there: what
// becomes of the addresses later changes nothing. Memory: the names of all images of one source, and as many images as are read at once.
import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import { AnnealError } from '../../contracts/failure.ts';
import { type FrozenImage, FrozenImageSchema, type FrozenSource, ImageTableSchema } from '../../contracts/records.ts';
import { getBlob, putBlob } from '../../storage/file-set.ts';
import { inLanes } from '../../storage/in-lanes.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { Mapping } from '../mapping.ts';
import { partOf, readSource } from '../source-bytes.ts';
import type { MediaLoader } from './load.ts';
import { keepImage } from './media.ts';
import { namedImages } from './named.ts';

/** Of one source: their names take some 300 MB of memory. */
const IMAGES_MAX = 1_000_000;
/** Of all images of one source, bytes: as much as the rows of one may have. */
const BYTES_MAX = 256 * 1024 ** 3;
/** Read at once: a server's answer takes longer than its bytes, and an image has up to 10 MiB. */
const LANES = 16;
/** Of one image, until all of it is there: 10 MiB at 170 kB a second, ms. */
const IMAGE_MS_MAX = 60_000;
/** Of a server that is down or overloaded, in a row; then the stage as a whole is tried again, later. */
const TRIES = 3;
/** After a try, times its number, ms. */
const PAUSE_MS = 1_000;
/** Of a table, characters: far below what a blob may have. */
const TABLE_LENGTH_MAX = 8 * 1024 * 1024;

export interface ImageLimits {
  images?: number;
  bytes?: number;
  imageMs?: number;
  pauseMs?: number;
}

/** Does the work, or reads what it gave when it was done before. */
export type Remember = <S extends z.ZodType>(
  input: object,
  schema: S,
  work: () => Promise<z.output<S>>,
) => Promise<z.output<S>>;

export interface ImageFreezing {
  store: ObjectStore;
  source: FrozenSource;
  /** By which the stage that cleans the rows will look for images. */
  mapping: Mapping;
  load: MediaLoader;
  signal: AbortSignal | undefined;
  remember: Remember;
  /** Images so far, and up to which byte of the source. */
  report(images: number, bytesRead: number): void;
  limits?: ImageLimits;
}

const TablesSchema = z.array(ImageTableSchema);
type ImageTable = z.infer<typeof ImageTableSchema>;

/**
 * The tables of the source's images, by the part in which the rows lie that name them. One address has one content in all of them.
 * @throws AnnealError `source_unavailable` where a server is down, `data_rejected` above the limits.
 */
export async function freezeImages(freezing: ImageFreezing): Promise<ImageTable[]> {
  const { store, source, mapping, signal, report } = freezing;
  const book = openBook(freezing);
  const tables: ImageTable[] = [];
  let [part, refs] = [0, new Set<string>()];
  const close = async () => {
    if (refs.size > 0) tables.push(...(await freezePart(freezing, part, [...refs], book)));
    refs = new Set();
  };
  for await (const { offset, named } of namedImages(readSource(store, source), source, mapping, signal)) {
    if (partOf(offset) !== part) await close();
    part = partOf(offset);
    for (const ref of named) refs.add(ref);
    report(book.known.size, offset);
  }
  await close();
  return tables;
}

interface Book {
  known: Map<string, FrozenImage>;
  /** @throws AnnealError `data_rejected` when they have too many bytes together. */
  add(image: FrozenImage, sizeBytes: number): void;
  /** Before so many more are read. @throws TooManyImages */
  requireRoom(more: number): void;
}

function openBook({ source: { uri }, limits = {} }: ImageFreezing): Book {
  const { images: imagesMax = IMAGES_MAX, bytes: bytesMax = BYTES_MAX } = limits;
  const known = new Map<string, FrozenImage>();
  let total = 0;
  return {
    known,
    add(image, sizeBytes) {
      known.set(image.ref, image);
      total += sizeBytes;
      if (total > bytesMax) throw new TooManyImages(uri, `images of more than ${bytesMax} bytes together`);
    },
    requireRoom(more) {
      if (known.size + more > imagesMax) throw new TooManyImages(uri, `more than ${imagesMax} images`);
    },
  };
}

/** Above the limits of one source. */
export class TooManyImages extends AnnealError {
  constructor(uri: string, what: string) {
    super('data_rejected', `Source ${uri} names ${what}, the most that one source may; cut it into several.`);
  }
}

async function freezePart(freezing: ImageFreezing, part: number, refs: string[], book: Book): Promise<ImageTable[]> {
  const { store, source, remember } = freezing;
  const tables = await remember({ images: source.sha256, uri: source.uri, part }, TablesSchema, async () => {
    const more = refs.filter((ref) => !book.known.has(ref));
    book.requireRoom(more.length);
    await inLanes(more, LANES, async (ref) => {
      const { image, sizeBytes } = await freezeImage(freezing, ref);
      book.add(image, sizeBytes);
    });
    return await putTables(
      store,
      part,
      refs.map((ref) => book.known.get(ref) as FrozenImage),
    );
  });
  // What an earlier attempt has read holds for the parts behind it, too.
  for (const { table } of tables)
    for (const image of await readImageTable(store, table)) if (!book.known.has(image.ref)) book.add(image, 0);
  return tables;
}

async function freezeImage(freezing: ImageFreezing, ref: string): Promise<{ image: FrozenImage; sizeBytes: number }> {
  const lost = (code: 'media_missing' | 'media_unreadable', message: string) => ({
    image: { ref, code, message },
    sizeBytes: 0,
  });
  try {
    const bytes = await loadPatiently(freezing, ref);
    const image = await keepImage(bytes, async (_digest, kept) => void (await putBlob(freezing.store, kept)));
    if (typeof image === 'string') return lost('media_unreadable', image);
    return { image: { ref, image }, sizeBytes: bytes.length };
  } catch (error) {
    // A server that is down comes back; a name that nobody has does not.
    const isGone = isNameless(error) || (error instanceof AnnealError && error.kind === 'bad_request');
    if (!isGone) throw error;
    return lost('media_missing', (error as Error).message.replace(/\.$/, ''));
  }
}

async function loadPatiently({ load, signal, limits = {} }: ImageFreezing, ref: string): Promise<Buffer> {
  const { imageMs = IMAGE_MS_MAX, pauseMs = PAUSE_MS } = limits;
  for (let tries = 1; ; tries++) {
    const time = AbortSignal.timeout(imageMs);
    try {
      const bytes = await load(ref, signal === undefined ? time : AbortSignal.any([signal, time]));
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    } catch (error) {
      signal?.throwIfAborted();
      const failure = time.aborted ? tooSlow(ref, imageMs) : error;
      if (tries === TRIES || !isUnavailable(failure)) throw failure;
    }
    await pause(pauseMs * tries, undefined, { signal });
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof AnnealError && error.kind === 'source_unavailable' && !isNameless(error);
}

/** No server has the name. */
function isNameless(error: unknown): boolean {
  return error instanceof AnnealError && (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOTFOUND';
}

function tooSlow(ref: string, ms: number): AnnealError {
  return new AnnealError(
    'source_unavailable',
    `Image ${ref.slice(0, 200)} was not there after ${ms} ms; look after its server, or leave the row out.`,
  );
}

async function putTables(store: ObjectStore, part: number, images: FrozenImage[]): Promise<ImageTable[]> {
  const tables: ImageTable[] = [];
  let [lines, length] = [[] as string[], 0];
  const close = async () => {
    if (lines.length > 0) tables.push({ part, table: await putBlob(store, Buffer.from(lines.join('\n'))) });
    [lines, length] = [[], 0];
  };
  for (const image of images) {
    const line = JSON.stringify(image);
    lines.push(line);
    length += line.length;
    if (length > TABLE_LENGTH_MAX) await close();
  }
  await close();
  return tables;
}

export async function readImageTable(store: ObjectStore, table: string): Promise<FrozenImage[]> {
  const text = Buffer.from(await getBlob(store, table)).toString('utf8');
  return text.split('\n').map((line) => FrozenImageSchema.parse(JSON.parse(line)));
}
