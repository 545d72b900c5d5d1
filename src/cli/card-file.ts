// Which form of a data card a file's name asks for, and the card in that form.
import { extname } from 'node:path';
import type { BuiltCard } from '../data/card/card.ts';
import { CARD_FILES } from '../data/card/stored.ts';
import { CliError, EXIT } from './failures.ts';

export type CardFile = (typeof CARD_FILES)[keyof typeof CARD_FILES];

const BY_EXTENSION: Record<string, CardFile> = {
  '.html': CARD_FILES.html,
  '.htm': CARD_FILES.html,
  '.md': CARD_FILES.markdown,
  '.json': CARD_FILES.json,
};

/** @throws CliError `usage` for another extension. */
export function cardFileOf(option: string, path: string): CardFile {
  const file = BY_EXTENSION[extname(path).toLowerCase()];
  if (file !== undefined) return file;
  throw new CliError('usage', `${option} takes a name that ends in .html, .md or .json, got ${path}.`, EXIT.usage);
}

export function cardText({ json, markdown, html }: BuiltCard, file: CardFile): string {
  if (file === CARD_FILES.html) return html;
  return file === CARD_FILES.markdown ? markdown : JSON.stringify(json);
}
