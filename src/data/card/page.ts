// The data card as one HTML file: no script, no network, for a screen, a phone or paper.
import type { Card } from '../../contracts/card.ts';
import { html, type Markup, prose } from './markup.ts';
import { contentSections } from './page-content.ts';
import { lineageSection } from './page-lineage.ts';
import { rowSections } from './page-rows.ts';
import { splitSections } from './page-splits.ts';
import { STYLE } from './style.ts';
import { compact, count, megabytes, speedText, VERDICTS } from './wording.ts';

export function renderPage(card: Card): string {
  const title = `Data card: ${card.name}`;
  const style: Markup = { markup: STYLE };
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="referrer" content="no-referrer" />
<title>${title}</title>
<style>${style}</style>
</head>
<body>
<main>
${heading(card)}
${verdict(card)}
${figures(card)}
${rowSections(card)}
${splitSections(card)}
${contentSections(card)}
${lineageSection(card)}
</main>
</body>
</html>
`;
  return page.markup;
}

function heading({ name, method, sources, run }: Card): Markup {
  const from = sources.length === 1 ? (sources[0]?.uri ?? '') : `${sources.length} sources`;
  return html`<header>
<p class="eyebrow">Data card</p>
<h1>${name}</h1>
<p>${from}, for ${method}${run === null ? '' : `, run ${run}`}</p>
</header>`;
}

function verdict({ verdict: { state, sentence }, alerts }: Card): Markup {
  const others = state === 'warnings' ? alerts.slice(1) : alerts;
  return html`<section class="verdict ${state}"><strong>${VERDICTS[state]}</strong><span>${prose(sentence)}</span></section>
${others.length > 0 && html`<section><h2>${state === 'blocked' ? 'What else was noticed' : 'Also noticed'}</h2><ul class="plain">${others.map(({ sentence: text }) => html`<li>${prose(text)}</li>`)}</ul></section>`}`;
}

function figures(card: Card): Markup {
  const { rows, splits, sources } = card;
  const speed = speedText(card);
  const train = splits.find(({ name }) => name === 'train');
  const sizeBytes = sources.reduce((sum, source) => sum + source.sizeBytes, 0);
  const shown: [string, string][] = [
    [count(rows.kept), `of ${count(rows.rowsIn)} rows kept`],
    ...(train?.tokens ? ([[compact(train.tokens), 'tokens in training rows']] as [string, string][]) : []),
    ...(train?.trainableTokens ? ([[compact(train.trainableTokens), 'of them learned']] as [string, string][]) : []),
    [megabytes(sizeBytes), `read from ${sources.length === 1 ? 'one source' : `${sources.length} sources`}`],
    ...(speed === null ? [] : ([[speed.time, `to prepare: ${speed.speed}`]] as [string, string][])),
  ];
  return html`<div class="figures">${shown.map(([number, what]) => html`<div><b>${number}</b><span>${what}</span></div>`)}</div>`;
}
