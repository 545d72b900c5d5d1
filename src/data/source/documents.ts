// Documents as rows of text: read one after the other by a process of their own, which is replaced when a document kills or holds it.
import { once } from 'node:events';
import { extname } from 'node:path';
import type { Source } from '../../contracts/data-spec.ts';
import { type Reader, startReader } from './child.ts';
import type { DocumentJob, DocumentText } from './document-reader.ts';
import { documentInUtf8, guessEncodingOfText } from './encoding.ts';
import { unreadableLine } from './unreadable.ts';

/** Bytes of one document: larger files are books of pictures. */
export const DOCUMENT_BYTES_MAX = 64 * 1024 ** 2;
/** A PDF of a thousand pages takes some ten seconds, ms. */
const TIME_MS_MAX = 60_000;
/** Of the reading process: pdf.js needs some ten times a document's size. */
const MEMORY_BYTES_MAX = 1024 ** 3;
/** Characters of one row; a longer document becomes several, because a row has at most 16 MiB. */
const TEXT_LENGTH_MAX = 1024 ** 2;

const EXTENSIONS = ['.md', '.markdown', '.html', '.htm', '.xhtml', '.txt', '.text', '.rst', '.pdf', '.docx'];

export function isDocumentName(name: string): boolean {
  return EXTENSIONS.includes(extname(name).toLowerCase());
}

export interface DocumentLimits {
  timeMsMax?: number;
  memoryBytesMax?: number;
}

export interface DocumentReader extends AsyncDisposable {
  /** The lines that stand for the document: its text, or why there is none. */
  read(job: DocumentJob, signal?: AbortSignal): Promise<string[]>;
}

export function createDocumentReader(limits: DocumentLimits = {}): DocumentReader {
  const timeMsMax = limits.timeMsMax ?? TIME_MS_MAX;
  const memoryBytesMax = limits.memoryBytesMax ?? MEMORY_BYTES_MAX;
  let reader: Reader | null = null;
  const close = async () => {
    const last = reader;
    reader = null;
    if (last === null || last.process.exitCode !== null || last.process.signalCode !== null) return;
    last.end(null);
    await once(last.process, 'exit');
  };
  return {
    async read({ name, bytes }, signal) {
      signal?.throwIfAborted();
      reader ??= startReader('document-reader', [], { memoryBytesMax }, { serialization: 'advanced', silent: true });
      const answer = await ask(reader, { name, bytes }, timeMsMax, signal);
      if (answer === null) {
        const why = reader.endedFor();
        await close();
        signal?.throwIfAborted();
        return [unreadableLine(name, { reason: deathOf(why, timeMsMax, memoryBytesMax) })];
      }
      return 'text' in answer ? linesOf(name, answer.text) : [unreadableLine(name, answer)];
    },
    [Symbol.asyncDispose]: close,
  };
}

/** null = larger than a document may be. */
export async function collectDocument(bytes: AsyncIterable<Uint8Array>): Promise<Buffer | null> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of bytes) {
    length += piece.length;
    if (length > DOCUMENT_BYTES_MAX) return null;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

interface ReadDocument {
  name: string;
  /** null = larger than a document may be. */
  bytes: Buffer | null;
  encoding: Source['encoding'];
}

export async function documentLines(
  reader: DocumentReader,
  { name, bytes, encoding }: ReadDocument,
  signal?: AbortSignal,
): Promise<string[]> {
  if (bytes === null)
    return [unreadableLine(name, { reason: `it is larger than ${DOCUMENT_BYTES_MAX} bytes; cut it into several` })];
  const isText = !/\.(pdf|docx)$/i.test(name) && bytes.toString('latin1', 0, 5) !== '%PDF-';
  const found = isText && encoding === null ? guessEncodingOfText(bytes) : null;
  if (found !== null)
    return [
      unreadableLine(name, {
        reason: `it is not UTF-8 and looks like ${found}; set \`encoding\` on the source, or save it as UTF-8`,
      }),
    ];
  return await reader.read({ name, bytes: isText ? documentInUtf8(bytes, encoding) : bytes }, signal);
}

/** null = the process died of the document. */
async function ask(
  reader: Reader,
  job: DocumentJob,
  timeMsMax: number,
  signal?: AbortSignal,
): Promise<DocumentText | null> {
  const { process: child } = reader;
  const timer = setTimeout(() => reader.end('time'), timeMsMax);
  const onAbort = () => reader.end(null);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await new Promise<DocumentText | null>((answer) => {
      child.once('message', (text) => answer(text as DocumentText));
      child.once('exit', () => answer(null));
      child.send(job, (error) => {
        if (error !== null) answer(null);
      });
    });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    child.removeAllListeners('message');
  }
}

function deathOf(why: 'memory' | 'time' | null, timeMsMax: number, memoryBytesMax: number): string {
  if (why === 'time') return `its reader took more than ${timeMsMax / 1000} s`;
  if (why === 'memory') return `its reader took more than ${memoryBytesMax / 1024 ** 2} MiB of memory`;
  return 'its reader died of it, or of too little memory';
}

function linesOf(file: string, text: string): string[] {
  if (text.length <= TEXT_LENGTH_MAX) return [JSON.stringify({ text, meta: { file } })];
  return cutText(text).map((piece, i) => JSON.stringify({ text: piece, meta: { file, piece: i + 1 } }));
}

/** At ends of paragraphs, else of lines, else between characters. */
function cutText(text: string): string[] {
  const pieces: string[] = [];
  let rest = text;
  while (rest.length > TEXT_LENGTH_MAX) {
    const head = rest.slice(0, TEXT_LENGTH_MAX);
    const end = [head.lastIndexOf('\n\n') + 2, head.lastIndexOf('\n') + 1].find((at) => at > TEXT_LENGTH_MAX / 2);
    const length = end ?? TEXT_LENGTH_MAX - (/[\ud800-\udbff]$/.test(head) ? 1 : 0);
    pieces.push(rest.slice(0, length).trimEnd());
    rest = rest.slice(length);
  }
  return [...pieces, rest];
}
