// Reads the images of a chat, checks that they are images, and leaves references by digest in their place.
// A row never holds an image itself. What lies at an address is read when the source is frozen (`freeze.ts`).
import { AnnealError } from '../../contracts/failure.ts';
import { MEDIA_TYPES, type MediaRef } from '../../contracts/rows.ts';
import { sha256Hex } from '../../storage/digest.ts';
import type { Chat } from '../shapes.ts';
import { RowFault } from '../turns.ts';
import { type ImageHeader, readImageHeader } from './image-header.ts';

/** Largest image, bytes: what OpenAI and Together take. */
export const IMAGE_BYTES_MAX = 10 * 1024 * 1024;

/** Largest image, pixels: half of what Pillow takes for an attack; models see far fewer. */
const IMAGE_PIXELS_MAX = 64 * 1024 * 1024;

/**
 * The image at an address of a row. Not asked for `data:` addresses.
 * @throws AnnealError `bad_request` where none is, `data_rejected` for one that cannot be used: behind its name, what is wrong.
 */
export type FindImage = (ref: string) => Promise<MediaRef>;

/** Where no source was frozen. */
export const noImages: FindImage = async () => {
  throw new AnnealError('bad_request', 'images at addresses are not looked for here');
};

/** Keeps the bytes under their digest. Idempotent. */
type KeepBytes = (digest: string, bytes: Uint8Array) => Promise<void>;

export interface MediaOptions {
  find: FindImage;
  keep: KeepBytes;
}

/** @throws RowFault `media_missing` or `media_unreadable`. */
export type MediaReader = (chat: Chat) => Promise<Chat>;

export function createMediaReader(options: MediaOptions): MediaReader {
  return async (chat) => {
    const media: MediaRef[] = [];
    for (const [i, image] of (chat.media ?? []).entries())
      media.push('ref' in image ? await readImage(image.ref, `images[${i}]`, options) : image);
    return media.length === 0 ? chat : { ...chat, media };
  };
}

async function readImage(ref: string, path: string, { find, keep }: MediaOptions): Promise<MediaRef> {
  if (!ref.startsWith('data:')) return await findOr(find, ref, path);
  const image = await keepImage(decodeDataUri(ref, path), keep);
  if (typeof image !== 'string') return image;
  throw new RowFault('media_unreadable', path, `${path} (${ref.slice(0, 80)}) ${image}`);
}

/** What is wrong with an address or an image is the row's fault; a store that is down is not. */
async function findOr(find: FindImage, ref: string, path: string): Promise<MediaRef> {
  try {
    return await find(ref);
  } catch (error) {
    const { kind = null, message } = error as Error & Partial<Pick<AnnealError, 'kind'>>;
    if (kind === 'bad_request')
      throw new RowFault('media_missing', path, `${path} cannot be read: ${message.replace(/\.$/, '')}`);
    if (kind === 'data_rejected')
      throw new RowFault('media_unreadable', path, `${path} (${ref.slice(0, 80)}) ${message}`);
    throw error;
  }
}

/** Keeps an image, or says behind its name what is wrong with it. */
export async function keepImage(bytes: Buffer, keep: KeepBytes): Promise<MediaRef | string> {
  const header = checkImage(bytes);
  if (typeof header === 'string') return header;
  const digest = sha256Hex(bytes);
  await keep(digest, bytes);
  return { digest, ...header, sizeBytes: bytes.length };
}

function checkImage(bytes: Buffer): ImageHeader | string {
  if (bytes.length > IMAGE_BYTES_MAX)
    return `is larger than ${IMAGE_BYTES_MAX / 1024 ** 2} MiB, the most that an image may have; make it smaller`;
  const header = readImageHeader(bytes);
  if (header === null)
    return `is no whole image of a type that is read (${MEDIA_TYPES.join(', ')}); save it as one of them`;
  if (header.width * header.height <= IMAGE_PIXELS_MAX) return header;
  return `has ${header.width} × ${header.height} pixels, and ${IMAGE_PIXELS_MAX} are the most; make it smaller`;
}

function decodeDataUri(uri: string, path: string): Buffer {
  const match = /^data:[^,]*;base64,([A-Za-z0-9+/=_\s-]*)$/.exec(uri);
  if (match !== null) return Buffer.from(match[1] as string, 'base64');
  throw new RowFault(
    'media_unreadable',
    path,
    `${path} is a data: URI that is not base64; write data:image/png;base64,…`,
  );
}
