// A process of its own that turns documents into text, one after the other: Markdown, HTML, plain text, PDF, DOCX.
// It gets bytes and gives text or a reason, by messages; it has no environment, and a hostile document can only end it.
import { isUtf8 } from 'node:buffer';
import { extname } from 'node:path';

export interface DocumentJob {
  name: string;
  bytes: Uint8Array;
}
export type DocumentText = { text: string } | { reason: string };

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
    return text === '' ? { reason: 'it holds no text (a scan would need OCR)' } : { text };
  } catch (error) {
    return { reason: error instanceof Error ? error.message.replaceAll(/\s+/g, ' ').slice(0, 300) : String(error) };
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
  const document = await getDocumentProxy(new Uint8Array(bytes), { verbosity: 0 });
  const { text } = await extractPages(document, { mergePages: false });
  return text.join('\n\n');
}

async function extractDocx(bytes: Buffer): Promise<string> {
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
