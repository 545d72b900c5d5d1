// The bytes of a source as they are handed on: looked at before the first, limited, and never none.
import { AnnealError } from '../../contracts/failure.ts';

/** Bytes looked at for the format: white space before the first row is rarely longer. */
const HEAD_BYTES = 64 * 1024;

export async function peek(
  bytes: AsyncIterable<Uint8Array>,
): Promise<{ head: Buffer; rest: AsyncIterator<Uint8Array> }> {
  const rest = bytes[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (head.length < HEAD_BYTES && isWhiteSpace(head)) {
    const piece = await rest.next();
    if (piece.done) break;
    head = Buffer.concat([head, piece.value]);
  }
  return { head, rest };
}

export async function* limit(
  head: Buffer,
  rest: AsyncIterator<Uint8Array>,
  uri: string,
  bytesMax: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let sizeBytes = 0;
  let isEmpty = true;
  try {
    for (let piece: Uint8Array | null = head; piece !== null; piece = await nextPiece(rest)) {
      signal?.throwIfAborted();
      sizeBytes += piece.length;
      if (sizeBytes > bytesMax) throw tooLarge(uri, bytesMax);
      isEmpty &&= isWhiteSpace(piece);
      if (piece.length > 0) yield piece;
    }
    if (isEmpty) throw emptySource(uri);
  } finally {
    await rest.return?.();
  }
}

async function nextPiece(iterator: AsyncIterator<Uint8Array>): Promise<Uint8Array | null> {
  const piece = await iterator.next();
  return piece.done ? null : piece.value;
}

/** First bytes of files that are no text, and what they are. */
const SIGNATURES: readonly (readonly [string, string, string])[] = [
  ['\x1f\x8b', 'gzip-compressed', 'unpack it'],
  ['\x28\xb5\x2f\xfd', 'zstd-compressed', 'unpack it'],
  ['PK\x03\x04', 'a ZIP archive or an Excel workbook', 'unpack it, or save it as CSV'],
  ['PAR1', 'Parquet', 'write it as JSONL'],
  ['\xff\xfe', 'UTF-16 text', 'save it as UTF-8'],
  ['\xfe\xff', 'UTF-16 text', 'save it as UTF-8'],
];

/** @throws AnnealError `data_rejected` for files that are no text. */
export function checkReadable(head: Buffer, uri: string): void {
  const start = head.toString('latin1', 0, 4);
  const found = SIGNATURES.find(([signature]) => start.startsWith(signature));
  if (found === undefined) return;
  throw new AnnealError('data_rejected', `Source ${uri} is ${found[1]}, which is not read; ${found[2]}.`);
}

function isWhiteSpace(bytes: Uint8Array): boolean {
  return bytes.every(
    (byte) =>
      byte === 32 || byte === 9 || byte === 10 || byte === 13 || byte === 0xef || byte === 0xbb || byte === 0xbf,
  );
}

function emptySource(uri: string): AnnealError {
  return new AnnealError(
    'data_rejected',
    `Source ${uri} is empty; put rows into it, or take it out of \`data.sources\`.`,
  );
}

export function tooLarge(uri: string, bytesMax: number): AnnealError {
  return new AnnealError(
    'data_rejected',
    `Source ${uri} is larger than ${bytesMax} bytes, the most that one source may have; cut it into several.`,
  );
}
