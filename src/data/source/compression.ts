// Undoes gzip and zstd, known by their first bytes. A file that grows beyond all reason is refused, whatever its size.
import { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { AnnealError } from '../../contracts/failure.ts';

/** Unpacked ÷ packed. Text packs to a fifth or a twentieth, logs that repeat themselves to a hundredth; gzip can reach 1,032, zstd far more. */
const RATIO_MAX = 200;
/** Unpacked bytes from which on the ratio counts: a small file that is all alike harms nobody. */
const FREE_BYTES = 256 * 1024 ** 2;

const CODINGS = {
  gzip: { magic: Buffer.from([0x1f, 0x8b, 0x08]), create: createGunzip },
  zstd: { magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), create: createZstdDecompress },
} as const;
export type Coding = keyof typeof CODINGS;

export function codingOf(head: Uint8Array): Coding | null {
  const names = Object.keys(CODINGS) as Coding[];
  return names.find((name) => CODINGS[name].magic.equals(head.subarray(0, CODINGS[name].magic.length))) ?? null;
}

/** The name without the ending that says how it is packed. */
export function unpackedName(name: string): string {
  return name.replace(/\.(gz|gzip|zst|zstd)$/i, '');
}

/** @throws AnnealError `data_rejected` when it is broken or a bomb. */
export async function* unpack(
  packed: AsyncIterable<Uint8Array>,
  coding: Coding,
  uri: string,
  ratioMax = RATIO_MAX,
  freeBytes = FREE_BYTES,
): AsyncGenerator<Uint8Array> {
  let packedBytes = 0;
  let unpackedBytes = 0;
  const source = Readable.from(
    (async function* () {
      for await (const piece of packed) {
        packedBytes += piece.length;
        yield piece;
      }
    })(),
    { objectMode: false },
  );
  const target = CODINGS[coding].create();
  source.on('error', (error) => target.destroy(error));
  source.pipe(target);
  try {
    for await (const piece of target) {
      unpackedBytes += (piece as Buffer).length;
      if (unpackedBytes > freeBytes && unpackedBytes > packedBytes * ratioMax)
        throw bomb(uri, coding, packedBytes, unpackedBytes, ratioMax);
      yield piece as Buffer;
    }
  } catch (error) {
    throw isZlibError(error) ? broken(uri, coding, unpackedBytes, error) : error;
  } finally {
    target.destroy();
    source.destroy();
  }
}

function isZlibError(error: unknown): error is NodeJS.ErrnoException {
  return /^(Z_|ZSTD_|ERR_ZSTD)/.test((error as NodeJS.ErrnoException).code ?? '');
}

function bomb(uri: string, coding: Coding, packed: number, unpacked: number, ratioMax: number): AnnealError {
  return new AnnealError(
    'data_rejected',
    `Source ${uri} unpacks to more than ${ratioMax} times its size (${unpacked} bytes out of ${packed} of ${coding}), as no text does; unpack it yourself if it is what you want.`,
  );
}

function broken(uri: string, coding: Coding, unpacked: number, error: NodeJS.ErrnoException): AnnealError {
  return new AnnealError(
    'data_rejected',
    `Source ${uri} is no whole ${coding} file (${error.code} after ${unpacked} unpacked bytes); write it again.`,
    { cause: error },
  );
}
