// The card's part on where the dataset came from: what makes it the same again.
import type { Card } from '../../contracts/card.ts';
import { html, type Markup, prose } from './markup.ts';
import { LISTED_MAX, megabytes, restText } from './wording.ts';

export function lineageSection({ lineage, sources, dropColumns, notes }: Card): Markup {
  const { dataset, snapshot, rules, code, tokenizer, template, workflow } = lineage;
  const entries: [string, string | null][] = [
    ['dataset', dataset],
    ['snapshot', snapshot],
    ['rules', rules],
    ['code', code],
    ['tokenizer', tokenizer],
    ['chat template', template],
  ];
  const moreSources = restText(sources.length, 'sources');
  const moreNotes = restText(notes.length, 'notes');
  const shown = entries.filter(([, digest]) => digest !== null);
  return html`<section><h2>Lineage</h2><dl>${shown.map(([name, digest]) => html`<dt>${name}</dt><dd><code>${digest}</code></dd>`)}${sources.slice(0, LISTED_MAX).map(sourceLine)}${moreSources !== null && html`<dt></dt><dd class="soft">${moreSources}</dd>`}${dropColumns.length > 0 && html`<dt>columns taken out</dt><dd>${dropColumns.join(', ')}</dd>`}${workflow !== null && html`<dt>Temporal</dt><dd><a href="${workflow}" rel="noreferrer">the run’s workflow</a></dd>`}</dl>${notes.length > 0 && html`<h3>Notes</h3><ul class="plain">${notes.slice(0, LISTED_MAX).map((note) => html`<li>${prose(note)}</li>`)}</ul>${moreNotes !== null && html`<p class="soft">${moreNotes}</p>`}`}</section>`;
}

function sourceLine({ uri, format, sizeBytes, sha256, etag, converted }: Card['sources'][number]): Markup {
  const facts = [format, megabytes(sizeBytes), ...(converted === null ? [] : [converted])].join(', ');
  return html`<dt>source</dt><dd>${uri} <span class="soft">(${facts})</span><br /><code>${sha256}</code>${etag !== null && html`<br /><span class="soft">ETag ${etag}</span>`}</dd>`;
}
