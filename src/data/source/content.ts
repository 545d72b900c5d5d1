// The bytes of a source as they are handed on: looked at before the first, limited, and never none.
import { createHash } from 'node:crypto';
import { AnnealError } from '../../contracts/failure.ts';

export interface Ahead {
  /** At least the wanted number of bytes, or all there are. */
  head: Buffer;
  /** Everything, the head included. To be read once; leaving the loop closes what is open. */
  bytes: AsyncIterable<Uint8Array>;
}

export async function readAhead(bytes: AsyncIterable<Uint8Array>, sizeBytes: number): Promise<Ahead> {
  const rest = bytes[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  for (let length = 0; length < sizeBytes; ) {
    const piece = await rest.next();
    if (piece.done) break;
    pieces.push(piece.value);
    length += piece.value.length;
  }
  const head = Buffer.concat(pieces);
  return { head, bytes: replay(head, rest) };
}

/** Closes the source also where nobody begins to read, when `return` is called on it. */
function replay(head: Buffer, rest: AsyncIterator<Uint8Array>): AsyncIterable<Uint8Array> {
  async function* everything() {
    if (head.length > 0) yield head;
    yield* { [Symbol.asyncIterator]: () => rest };
  }
  const iterator = everything();
  return {
    [Symbol.asyncIterator]: () => ({
      next: () => iterator.next(),
      return: async () => {
        await rest.return?.();
        return await iterator.return();
      },
    }),
  };
}

export async function closeUnread(bytes: AsyncIterable<Uint8Array>): Promise<void> {
  await bytes[Symbol.asyncIterator]().return?.();
}

/** Hands the bytes on, at most so many, and says when there was nothing but white space. */
export async function* limit(
  bytes: AsyncIterable<Uint8Array>,
  uri: string,
  bytesMax: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let sizeBytes = 0;
  let isEmpty = true;
  for await (const piece of bytes) {
    signal?.throwIfAborted();
    sizeBytes += piece.length;
    if (sizeBytes > bytesMax) throw tooLarge(uri, bytesMax);
    isEmpty &&= isWhiteSpace(piece);
    if (piece.length > 0) yield piece;
  }
  if (isEmpty) throw new EmptySource(uri);
}

export interface Hashed {
  bytes: AsyncIterable<Uint8Array>;
  /** SHA-256 of all bytes; null while they are not read to their end, and where it was not wanted. */
  sha256: () => string | null;
  /** The digest is not wanted after all. */
  stop: () => void;
  bytesRead: () => number;
}

export function hashInPassing(bytes: AsyncIterable<Uint8Array>): Hashed {
  const hash = createHash('sha256');
  let sha256: string | null = null;
  let isWanted = true;
  let bytesRead = 0;
  async function* pass() {
    for await (const piece of bytes) {
      bytesRead += piece.length;
      if (isWanted) hash.update(piece);
      yield piece;
    }
    if (isWanted) sha256 = hash.digest('hex');
  }
  const stop = () => {
    isWanted = false;
  };
  return { bytes: pass(), sha256: () => sha256, stop, bytesRead: () => bytesRead };
}

/** First bytes of files that are nothing a row could be in, and what they are. */
const SIGNATURES: readonly (readonly [string, number, string, string])[] = [
  ['PK\x03\x04', 0, 'a ZIP archive or an Excel workbook', 'unpack it, or save it as CSV'],
  [
    '\xd0\xcf\x11\xe0',
    0,
    'an Office file that is old or protected by a password',
    'take the password off and save it as CSV or DOCX',
  ],
  ['ustar', 257, 'a tar archive', 'unpack it and name the folder'],
  ['BZh', 0, 'bzip2-compressed', 'pack it with gzip or zstd'],
  ['\xfd7zXZ', 0, 'xz-compressed', 'pack it with gzip or zstd'],
  ['\x89HDF', 0, 'an HDF5 file', 'write it as JSONL or Parquet'],
  ['ARROW1', 0, 'an Arrow file', 'write it as Parquet'],
];

/** @throws AnnealError `data_rejected` for files that are no text. */
export function checkReadable(head: Buffer, uri: string): void {
  const start = head.toString('latin1', 0, 300);
  const found = SIGNATURES.find(([signature, at]) => start.startsWith(signature, at));
  if (found === undefined) return;
  throw new AnnealError('data_rejected', `Source ${uri} is ${found[2]}, which is not read; ${found[3]}.`);
}

/** @throws AnnealError `data_rejected` for lines that end as on a Macintosh of before 2001: all rows would be one. */
export function requireLineEnds(head: Buffer, uri: string): void {
  if (head.includes(10) || !head.includes(13)) return;
  throw new AnnealError(
    'data_rejected',
    `Source ${uri} has lines that end with CR alone, which are not read; save it with LF or CRLF line ends.`,
  );
}

function isWhiteSpace(bytes: Uint8Array): boolean {
  return bytes.every(
    (byte) =>
      byte === 32 || byte === 9 || byte === 10 || byte === 13 || byte === 0xef || byte === 0xbb || byte === 0xbf,
  );
}

/** There are no rows. Among several files that is nothing to stop at. */
export class EmptySource extends AnnealError {
  constructor(uri: string) {
    super('data_rejected', `Source ${uri} is empty; put rows into it, or take it out of \`data.sources\`.`);
  }
}

export function tooLarge(uri: string, bytesMax: number): AnnealError {
  return new AnnealError(
    'data_rejected',
    `Source ${uri} is larger than ${bytesMax} bytes, the most that one source may have; cut it into several.`,
  );
}
