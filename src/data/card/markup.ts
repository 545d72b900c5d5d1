// HTML as a template: what is put into it is text unless it is markup itself, so that no row can write the page.

import { toUSVString } from 'node:util';

export interface Markup {
  markup: string;
}

type Part = Markup | string | number | null | false | readonly Markup[];

export function html(strings: TemplateStringsArray, ...parts: Part[]): Markup {
  return { markup: strings.reduce((page, string, i) => page + textOf(parts[i - 1] ?? null) + string) };
}

function textOf(part: Part): string {
  if (part === null || part === false) return '';
  if (typeof part === 'string' || typeof part === 'number') return escapeText(String(part));
  return 'markup' in part ? part.markup : part.map(({ markup }) => markup).join('');
}

/** A sentence in which `names` of fields stand between backticks. */
export function prose(sentence: string): Markup {
  const parts = sentence.split('`');
  if (parts.length % 2 === 0) return html`${sentence}`;
  return html`${parts.map((part, i) => (i % 2 === 1 ? html`<code>${part}</code>` : html`${part}`))}`;
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

// biome-ignore lint/suspicious/noControlCharactersInRegex: what no HTML page may hold
const FORBIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\ufffe\uffff]/g;

function escapeText(text: string): string {
  return toUSVString(text)
    .replace(FORBIDDEN, '\ufffd')
    .replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}
