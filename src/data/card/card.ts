// The data card: what a dataset is, for programs, for people who read text, and for people who look. Pure.
import type { Card } from '../../contracts/card.ts';
import { describeCard } from './describe.ts';
import type { CardInput } from './input.ts';
import { renderMarkdown } from './markdown.ts';
import { renderPage } from './page.ts';

export interface BuiltCard {
  json: Card;
  markdown: string;
  html: string;
}

export function buildCard(input: CardInput): BuiltCard {
  const json = describeCard(input);
  return { json, markdown: renderMarkdown(json), html: renderPage(json) };
}
