// Text that is not UTF-8: what it looks like, a refusal that says so, and its conversion where the spec asks for it.
import { isUtf8 } from 'node:buffer';
import { analyse } from 'chardet';
import iconv from 'iconv-lite';
import { ENCODINGS, type Source } from '../../contracts/data-spec.ts';
import { AnnealError } from '../../contracts/failure.ts';

/** Looked at, bytes: the first thousand rows, more or less. */
export const SAMPLE_BYTES = 1024 * 1024;
/** Single broken rows are dropped as such; from this share of the lines on, and this number, it is the file that is meant. */
const BROKEN_SHARE = 0.05;
const BROKEN_LINES = 3;
/** Share of NUL bytes above which text can only be UTF-16: Latin letters are every second byte. */
const NUL_SHARE = 0.2;

/** Above this share of control characters it is no text in any encoding; random bytes have an eighth. */
const CONTROL_SHARE = 0.02;
/** Above this share of NUL bytes it is no text, and no UTF-16 either. */
const EMPTY_SHARE = 0.6;

/** The encoding to convert from, or null for UTF-8. @throws AnnealError `data_rejected` for another one that the spec does not name. */
export function decideEncoding(sample: Buffer, wanted: Source['encoding'], uri: string): string | null {
  const found = guessEncoding(sample);
  if (found !== null) requireText(sample, found, uri);
  if (wanted === null || wanted === undefined) {
    if (found !== null) throw notUtf8(uri, found);
    return null;
  }
  if (wanted === 'auto') {
    if (found !== null && !isKnown(found)) throw notUtf8(uri, found);
    return found;
  }
  // Asked for, and yet UTF-8: converting it would garble it.
  if (found === null && !isAscii(sample) && !wanted.startsWith('utf-16')) throw isUtf8Already(uri, wanted);
  return wanted === 'utf-16' ? byteOrderOf(sample, uri) : wanted;
}

/** @throws AnnealError `data_rejected` for bytes that are no text at all. */
function requireText(sample: Buffer, found: string, uri: string): void {
  const isControl = (byte: number) => (byte < 32 && byte !== 9 && byte !== 10 && byte !== 13) || byte === 127;
  const shareOf = (isCounted: (byte: number) => boolean) =>
    sample.reduce((sum, byte) => sum + (isCounted(byte) ? 1 : 0), 0) / sample.length;
  // In UTF-16 a half of any character may look like one.
  const isText = found.startsWith('utf-16')
    ? shareOf((byte) => byte === 0) <= EMPTY_SHARE
    : shareOf(isControl) <= CONTROL_SHARE;
  if (isText) return;
  throw new AnnealError(
    'data_rejected',
    `Source ${uri} is no text: it holds ${found.startsWith('utf-16') ? 'hardly anything but NUL bytes' : 'control characters all over'}; fetch it again, or name another file.`,
  );
}

/** What the bytes of rows look like, as `encoding` takes it; null = UTF-8, but for single rows. */
export function guessEncoding(sample: Buffer): string | null {
  const lines = linesOf(sample);
  const broken = lines.filter((line) => !isUtf8(line));
  const isMeant = broken.length >= BROKEN_LINES && broken.length >= lines.length * BROKEN_SHARE;
  return byteOrderIn(sample) ?? (isMeant ? detect(broken) : null);
}

/** Of a text as a whole, in which one character is enough. */
export function guessEncodingOfText(text: Buffer): string | null {
  return byteOrderIn(text) ?? (isUtf8(text) ? null : detect(linesOf(text).filter((line) => !isUtf8(line))));
}

function detect(broken: Buffer[]): string {
  return nameOf(analyse(Buffer.concat(broken))[0]?.name);
}

function byteOrderIn(sample: Buffer): string | null {
  const mark = sample.toString('latin1', 0, 2);
  if (mark === '\xff\xfe') return 'utf-16le';
  if (mark === '\xfe\xff') return 'utf-16be';
  return orderByZeros(sample);
}

/** UTF-16 without a mark: half of the bytes of Latin text are zero, all on one side. */
function orderByZeros(sample: Buffer): string | null {
  let even = 0;
  let odd = 0;
  for (let at = sample.indexOf(0); at >= 0; at = sample.indexOf(0, at + 1)) at % 2 === 0 ? even++ : odd++;
  if (Math.max(even, odd) <= sample.length * NUL_SHARE) return null;
  return odd > even ? 'utf-16le' : 'utf-16be';
}

/** Without the last, which may be cut. */
function linesOf(sample: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  let start = 0;
  for (let end = sample.indexOf(10); end >= 0; end = sample.indexOf(10, start)) {
    lines.push(sample.subarray(start, end));
    start = end + 1;
  }
  if (sample.length < SAMPLE_BYTES && start < sample.length) lines.push(sample.subarray(start));
  return lines;
}

/** Latin text that is no Unicode is Windows' in practice: the standard's own place has control characters where that has quotes. */
function nameOf(detected: string | undefined): string {
  const name = (detected ?? 'windows-1252').toLowerCase().replace('windows-', 'cp');
  const alias: Record<string, string> = { 'iso-8859-1': 'cp1252', ascii: 'cp1252', 'utf-8': 'cp1252' };
  return alias[name] ?? name;
}

function byteOrderOf(sample: Buffer, uri: string): string {
  const found = guessEncoding(sample);
  if (found?.startsWith('utf-16')) return found;
  throw new AnnealError(
    'data_rejected',
    `Source ${uri} has no byte order mark; set its \`encoding\` to utf-16le or utf-16be.`,
  );
}

function isAscii(sample: Buffer): boolean {
  return sample.every((byte) => byte < 0x80);
}

function isKnown(encoding: string): boolean {
  return (ENCODINGS as readonly string[]).includes(encoding);
}

function notUtf8(uri: string, found: string): AnnealError {
  const remedy = isKnown(found)
    ? `set \`encoding: ${found}\` on it to have it converted, or save it as UTF-8`
    : 'save it as UTF-8';
  return new AnnealError('data_rejected', `Source ${uri} is not UTF-8 and looks like ${found}; ${remedy}.`);
}

function isUtf8Already(uri: string, wanted: string): AnnealError {
  return new AnnealError(
    'data_rejected',
    `Source ${uri} is UTF-8 already, and reading it as ${wanted} would garble it; take \`encoding\` out.`,
  );
}

/** A document as it is, or converted where the spec says from what and it is not UTF-8 already. */
export function documentInUtf8(bytes: Buffer, wanted: Source['encoding']): Buffer {
  if (!wanted || isUtf8(bytes)) return bytes;
  const from = wanted === 'auto' || wanted === 'utf-16' ? guessEncodingOfText(bytes) : wanted;
  return from === null ? bytes : Buffer.from(iconv.decode(bytes, from), 'utf8');
}

export interface Converted {
  bytes: AsyncIterable<Uint8Array>;
  /** Characters that have no meaning in the encoding, so far; each has become U+FFFD. */
  lost: () => number;
}

export function toUtf8(bytes: AsyncIterable<Uint8Array>, encoding: string): Converted {
  const decoder = iconv.getDecoder(encoding);
  let lost = 0;
  const encode = (text: string) => {
    for (let at = text.indexOf('\ufffd'); at >= 0; at = text.indexOf('\ufffd', at + 1)) lost++;
    return Buffer.from(text, 'utf8');
  };
  async function* convert() {
    for await (const piece of bytes) yield encode(decoder.write(Buffer.from(piece)));
    const rest = decoder.end();
    if (rest) yield encode(rest);
  }
  return { bytes: convert(), lost: () => lost };
}
