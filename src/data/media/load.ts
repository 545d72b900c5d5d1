// Reads the images that a source's rows name: files next to the source and below, and addresses on the web or in S3.
import { realpath } from 'node:fs/promises';
import { dirname, resolve, sep } from 'node:path';
import { AnnealError } from '../../contracts/failure.ts';
import type { SourceContext } from '../source/context.ts';
import { exampleOf, fileOf } from '../source/file.ts';
import { openRaw } from '../source/raw-source.ts';
import { IMAGE_BYTES_MAX } from './media.ts';

/** @throws AnnealError `bad_request` for an address that is wrong or leads elsewhere, `source_unavailable` where its server is down. */
export type MediaLoader = (ref: string, signal?: AbortSignal) => Promise<Uint8Array>;

/** @param allowPrivate as the source says: whether images may lie on private addresses. */
export function createMediaLoader(source: string, ctx: SourceContext, allowPrivate = false): MediaLoader {
  return async (ref, signal) => {
    const uri = await addressOf(ref, source, ctx);
    const { bytes } = await openRaw({ uri, allowPrivate }, ctx, signal);
    return await readWithin(bytes);
  };
}

function badImage(ref: string, what: string): AnnealError {
  return new AnnealError('bad_request', `Image ${ref.slice(0, 200)} ${what}.`);
}

/** What is relative is so to the source's own address. */
async function addressOf(ref: string, source: string, ctx: SourceContext): Promise<string> {
  const isOnWeb = /^https?:\/\//i.test(source);
  if (isOnWeb) return webAddress(ref, source);
  if (/^(https?|s3):\/\//i.test(ref)) return ref;
  if (/^s3:\/\//i.test(source)) return siblingKey(ref, source);
  if (/^postgres(ql)?:/i.test(source))
    throw badImage(ref, 'is a path, and rows of a database lie in no folder; write a whole address');
  const file = source.startsWith('example:')
    ? exampleOf(source, ctx.examplesFolder)
    : /^file:/i.test(source)
      ? fileOf(source, source)
      : resolve(source.replace(/^sqlite:/i, ''));
  return await fileBelow(dirname(file), ref);
}

/** Rows from elsewhere name nothing on this disk and nothing that only this worker may read. */
function webAddress(ref: string, source: string): string {
  const url = URL.canParse(ref, source) ? new URL(ref, source) : null;
  if (url !== null && /^https?:$/.test(url.protocol)) return url.href;
  throw badImage(ref, `is no web address, and the rows that name it come from ${source}; put the image there`);
}

function siblingKey(ref: string, source: string): string {
  const url = new URL(ref, source);
  const folder = new URL('.', source);
  if (url.host !== folder.host || !url.pathname.startsWith(folder.pathname)) throw outside(ref, source);
  return `s3://${url.host}${decodeURIComponent(url.pathname)}`;
}

/** Links are followed first, so that none leads out of the folder. */
async function fileBelow(folder: string, ref: string): Promise<string> {
  const path = resolve(folder, /^file:/i.test(ref) ? fileOf(ref, ref) : ref);
  const [root, real] = [await realpath(folder), await realpath(path).catch(() => path)];
  if (![folder, root].some((base) => real.startsWith(base + sep))) throw outside(ref, folder);
  return path;
}

function outside(ref: string, folder: string): Error {
  return badImage(ref, `leaves the folder of the rows that name it (${folder}); put the image into it`);
}

/** One byte more than an image may have, at most: enough to see that it is too large. */
async function readWithin(bytes: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const piece of bytes) {
    pieces.push(piece);
    sizeBytes += piece.length;
    if (sizeBytes > IMAGE_BYTES_MAX) break;
  }
  return Buffer.concat(pieces);
}
