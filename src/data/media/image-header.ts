// Reads what an image file says of itself: its type and size in pixels. A file that is cut short or no image at all gives null.
// Looked at are the frame and the end of the file; the pixels themselves are not decoded.
import { crc32 } from 'node:zlib';
import type { MediaRef } from '../../contracts/rows.ts';

export type ImageHeader = Pick<MediaRef, 'type' | 'width' | 'height'>;

export function readImageHeader(bytes: Buffer): ImageHeader | null {
  const found = readPng(bytes) ?? readJpeg(bytes) ?? readGif(bytes) ?? readWebp(bytes);
  return found !== null && found.width > 0 && found.height > 0 ? found : null;
}

const PNG_SIGNATURE = '\x89PNG\r\n\x1a\n';
/** Signature, then the chunk IHDR: length 4, name 4, content 13, checksum 4. */
const PNG_HEADER_BYTES = 33;
/** An empty chunk. */
const PNG_END_BYTES = 12;

/** The first chunk is IHDR with a right checksum; chunks follow one another up to IEND. */
function readPng(bytes: Buffer): ImageHeader | null {
  if (bytes.length < PNG_HEADER_BYTES + PNG_END_BYTES || bytes.toString('latin1', 0, 8) !== PNG_SIGNATURE) return null;
  if (bytes.toString('latin1', 12, 16) !== 'IHDR' || crc32(bytes.subarray(12, 29)) !== bytes.readUInt32BE(29))
    return null;
  const size: ImageHeader = { type: 'image/png', width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
  for (let at = 8; at + PNG_END_BYTES <= bytes.length; at += PNG_END_BYTES + bytes.readUInt32BE(at))
    if (bytes.toString('latin1', at + 4, at + 8) === 'IEND') return size;
  return null;
}

/** Start of frame, whatever the coding, but not the tables that lie between (DHT, JPG, DAC). */
function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}

/** Segments up to the frame; cameras write some bytes behind the end mark. */
function readJpeg(bytes: Buffer): ImageHeader | null {
  if (bytes.length < 4 || bytes.readUInt16BE(0) !== 0xffd8 || bytes.lastIndexOf('\xff\xd9', undefined, 'latin1') === -1)
    return null;
  for (let at = 2; at + 9 < bytes.length; ) {
    if (bytes[at] !== 0xff) return null;
    const marker = bytes[at + 1] as number;
    if (marker === 0xff) at += 1;
    else if (isFrame(marker))
      return { type: 'image/jpeg', width: bytes.readUInt16BE(at + 7), height: bytes.readUInt16BE(at + 5) };
    else at += 2 + Math.max(2, bytes.readUInt16BE(at + 2));
  }
  return null;
}

const GIF_END = 0x3b;

function readGif(bytes: Buffer): ImageHeader | null {
  if (bytes.length < 14 || !/^GIF8[79]a$/.test(bytes.toString('latin1', 0, 6)) || !bytes.includes(GIF_END, 13))
    return null;
  return { type: 'image/gif', width: bytes.readUInt16LE(6), height: bytes.readUInt16LE(8) };
}

/** RIFF says how long the file is; then lossy (VP8), lossless (VP8L) or extended (VP8X). */
function readWebp(bytes: Buffer): ImageHeader | null {
  const isWebp =
    bytes.length >= 30 && bytes.toString('latin1', 0, 4) === 'RIFF' && bytes.toString('latin1', 8, 12) === 'WEBP';
  if (!isWebp || bytes.readUInt32LE(4) + 8 > bytes.length) return null;
  const type = 'image/webp';
  switch (bytes.toString('latin1', 12, 16)) {
    case 'VP8 ':
      if (bytes.readUIntBE(23, 3) !== 0x9d012a) return null;
      return { type, width: bytes.readUInt16LE(26) & 0x3fff, height: bytes.readUInt16LE(28) & 0x3fff };
    case 'VP8L': {
      if (bytes[20] !== 0x2f) return null;
      const bits = bytes.readUInt32LE(21);
      return { type, width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
    }
    case 'VP8X':
      return { type, width: bytes.readUIntLE(24, 3) + 1, height: bytes.readUIntLE(27, 3) + 1 };
    default:
      return null;
  }
}
