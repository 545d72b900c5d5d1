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

export interface MediaOptions {
  /** The bytes at an address, at most one more than `IMAGE_BYTES_MAX`; null where nothing is. Not asked for `data:` URIs. */
  load(ref: string): Promise<Uint8Array | null>;
  /** Idempotent. */
  keep(digest: string, bytes: Uint8Array): Promise<void>;
}

/** @throws RowFault `media_missing` or `media_unreadable`. */
export type MediaReader = (chat: Chat) => Promise<Chat>;

export function createMediaReader(options: MediaOptions): MediaReader {
  return async (chat) => {
    const media: MediaRef[] = [];
    for (const [i, image] of (chat.media ?? []).entries())
      media.push('ref' in image ? await readImage(image.ref, i, options) : image);
    return media.length === 0 ? chat : { ...chat, media };
  };
}

async function readImage(ref: string, index: number, { load, keep }: MediaOptions): Promise<MediaRef> {
  const path = `images[${index}]`;
  const named = `${path} (${ref.slice(0, 80)})`;
  const bytes = ref.startsWith('data:') ? decodeDataUri(ref, path) : await loadOr(load, ref, path);
  if (bytes === null)
    throw new RowFault('media_missing', path, `${named} is not there; correct the address, or leave the row out`);
  const fault = faultOfImage(bytes);
  if (fault !== null) throw new RowFault('media_unreadable', path, `${named} ${fault}`);
  const header = readImageHeader(bytes) as ImageHeader;
  const digest = sha256Hex(bytes);
  await keep(digest, bytes);
  return { digest, ...header, sizeBytes: bytes.length };
}

/** An address that cannot be used, or holds no image, is the row's fault; a server or a store that is down is not. */
async function loadOr(load: MediaOptions['load'], ref: string, path: string): Promise<Buffer | null> {
  try {
    const bytes = await load(ref);
    return bytes === null ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  } catch (error) {
    const { kind = null, message } = error instanceof AnnealError ? error : (error as Error & { kind?: null });
    if (kind === 'bad_request')
      throw new RowFault('media_missing', path, `${path} cannot be read: ${message.replace(/\.$/, '')}`);
    if (kind === 'data_rejected')
      throw new RowFault('media_unreadable', path, `${path} (${ref.slice(0, 80)}) ${message}`);
    throw error;
  }
}

/** What is wrong with the bytes of an image, behind its name; null = nothing. */
export function faultOfImage(bytes: Buffer): string | null {
  if (bytes.length > IMAGE_BYTES_MAX)
    return `is larger than ${IMAGE_BYTES_MAX} bytes, the most that an image may have; make it smaller`;
  const header = readImageHeader(bytes);
  if (header === null)
    return `is no whole image of a type that is read (${MEDIA_TYPES.join(', ')}); save it as one of them`;
  if (header.width * header.height <= IMAGE_PIXELS_MAX) return null;
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
