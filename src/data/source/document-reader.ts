// A process of its own that turns documents into text, one after the other: Markdown, HTML, plain text, PDF, DOCX.
// It gets bytes and gives text or a reason, by messages; it has no environment, and a hostile document can only end it.
import { isUtf8 } from 'node:buffer';
import { extname } from 'node:path';
import { addTables } from './document-tables.ts';
import type { Unreadable } from './unreadable.ts';

export interface DocumentJob {
  name: string;
  bytes: Uint8Array;
}
export type DocumentText = { text: string } | Unreadable;

type Extract = (bytes: Buffer) => Promise<string>;

const EXTRACT: Record<string, Extract> = {
  '.pdf': extractPdf,
  '.docx': extractDocx,
  '.html': extractHtml,
  '.htm': extractHtml,
  '.xhtml': extractHtml,
};

async function read({ name, bytes }: DocumentJob): Promise<DocumentText> {
  const extract = EXTRACT[extname(name).toLowerCase()] ?? extractByContent;
  try {
    const text = tidy(await extract(Buffer.from(bytes)));
    return text === '' ? { reason: 'it holds no text' } : { text };
  } catch (error) {
    if (error instanceof Refused) return { reason: error.message, code: error.code };
    return { reason: error instanceof Error ? error.message.replaceAll(/\s+/g, ' ').slice(0, 300) : String(error) };
  }
}

/** A document that people must do something about. */
class Refused extends Error {
  readonly code: NonNullable<Unreadable['code']>;
  constructor(code: Refused['code'], reason: string) {
    super(reason);
    this.code = code;
  }
}

/** Of a name that says nothing, such as a web page's. */
async function extractByContent(bytes: Buffer): Promise<string> {
  const start = bytes.toString('latin1', 0, 256);
  if (start.startsWith('%PDF-')) return await extractPdf(bytes);
  return await (/^\s*<(!doctype\s+html|html[\s>])/i.test(start) ? extractHtml : extractText)(bytes);
}

async function extractText(bytes: Buffer): Promise<string> {
  if (!isUtf8(bytes)) throw new Error('it is not UTF-8; save it as UTF-8');
  if (bytes.includes(0)) throw new Error('it holds NUL bytes, so it is no text');
  return bytes.toString('utf8');
}

async function extractPdf(bytes: Buffer): Promise<string> {
  const { extractText: extractPages, getDocumentProxy } = await import('unpdf');
  const document = await getDocumentProxy(new Uint8Array(bytes), { verbosity: 0 }).catch((error: Error) => {
    if (error.name !== 'PasswordException') throw error;
    throw new Refused(
      'document_locked',
      'it is protected by a password; take it off (for example with qpdf --decrypt)',
    );
  });
  const { text } = await extractPages(document, { mergePages: false });
  const whole = text.join('\n\n');
  if (whole.trim() !== '') return whole;
  const pages = text.length === 1 ? '1 page' : `${text.length} pages`;
  throw new Refused(
    'document_is_scan',
    `it has ${pages} and no text, as scans have; run OCR on it (for example ocrmypdf)`,
  );
}

/** The container of Office files that are old or locked; a new one that is not is a ZIP archive. */
const COMPOUND_FILE = Buffer.from([0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]);

/** MS-OFFCRYPTO keeps a locked document in a stream of that name. */
function refuseLocked(bytes: Buffer): void {
  if (!bytes.subarray(0, COMPOUND_FILE.length).equals(COMPOUND_FILE)) return;
  if (bytes.includes(Buffer.from('EncryptedPackage', 'utf16le')))
    throw new Refused('document_locked', 'it is protected by a password; take it off in the program that wrote it');
  throw new Error('it is a file of Word before 2007; save it as DOCX');
}

async function extractDocx(bytes: Buffer): Promise<string> {
  refuseLocked(bytes);
  const { default: mammoth } = await import('mammoth');
  const { value } = await mammoth.convertToHtml({ buffer: bytes }, { externalFileAccess: false });
  return await toMarkdown(value, false);
}

async function extractHtml(bytes: Buffer): Promise<string> {
  return await toMarkdown(await extractText(bytes), true);
}

/** The article of a page where it has one: menus and footers teach a model nothing. */
async function toMarkdown(html: string, isPage: boolean): Promise<string> {
  const { parseHTML } = await import('linkedom');
  const { default: Turndown } = await import('turndown');
  const { document } = parseHTML(wholePage(html));
  for (const element of document.querySelectorAll('head, script, style, noscript, template, svg, nav'))
    element.remove();
  const whole = document.body ?? document.documentElement;
  const content = (isPage ? await articleOf(html) : null) ?? whole;
  const markdown = new Turndown({ headingStyle: 'atx', codeBlockStyle: 'fenced', bulletListMarker: '-' });
  markdown.addRule('no pictures in the text', { filter: 'img', replacement: (_, node) => altOf(node) });
  addTables(markdown);
  return markdown.turndown(content as never);
}

/** The parser takes the first element for the page. */
function wholePage(html: string): string {
  return /<body[\s>]/i.test(html) ? html : `<html><body>${html}</body></html>`;
}

async function articleOf(html: string): Promise<object | null> {
  const { parseHTML } = await import('linkedom');
  const { Readability, isProbablyReaderable } = await import('@mozilla/readability');
  const { document } = parseHTML(html);
  if (!isProbablyReaderable(document)) return null;
  const article = new Readability(document, { serializer: (node: unknown) => node }).parse();
  return (article?.content as object | null | undefined) ?? null;
}

function altOf(node: object): string {
  return (node as { getAttribute(name: string): string | null }).getAttribute('alt') ?? '';
}

function tidy(text: string): string {
  return text
    .replace(/^\ufeff/, '')
    .replaceAll('\r\n', '\n')
    .replaceAll(/[ \t]+\n/g, '\n')
    .replaceAll(/\n{3,}/g, '\n\n')
    .trim();
}

process.on('message', async (job: DocumentJob) => {
  process.send?.(await read(job));
});
process.on('disconnect', () => process.exit(0));
