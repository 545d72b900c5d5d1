// The card's part on rows: from the rows that came in to those that stay, by source, and why rows were dropped.
import type { Card } from '../../contracts/card.ts';
import type { QuarantinedRow } from '../../contracts/rows.ts';
import { sourceNames } from '../source-names.ts';
import { shareBar } from './charts.ts';
import { html, type Markup, prose } from './markup.ts';
import { count, LISTED_MAX, megabytes, percent, restText, rowsOf, waterfallOf } from './wording.ts';

/** Codes whose examples are open at first. */
const OPEN_CODES = 3;

export function rowSections(card: Card): Markup[] {
  return [waterfall(card), ...(card.sources.length > 1 ? [sources(card)] : []), ...codes(card)];
}

function waterfall(card: Card): Markup {
  const { rowsIn } = card.rows;
  let left = rowsIn;
  const lines = waterfallOf(card.rows).map(({ label, rows, kind }) => {
    const share = rowsIn === 0 ? 0 : rows / rowsIn;
    const isTotal = kind === 'in' || kind === 'kept';
    if (!isTotal) left -= rows;
    const from = isTotal || rowsIn === 0 ? 0 : left / rowsIn;
    return html`<span class="name${isTotal && ' total'}">${label}</span>${shareBar(from, share, kind)}<span class="n${isTotal && ' total'}">${isTotal ? '' : '− '}${count(rows)}</span><span class="share">${percent(share)}</span>`;
  });
  return html`<section><h2>From rows in to rows kept</h2><div class="bars">${lines}</div>${changes(card)}</section>`;
}

/** What was done to rows that stay. */
function changes({ fixed, repeated, nearFound, rows, tooLong }: Card): Markup {
  const lines = [
    ...Object.entries(fixed).map(([code, n]) => html`<li>mended: ${rowsOf(n)} with <code>${code}</code></li>`),
    ...(tooLong.split > 0
      ? [html`<li>too long, split: ${rowsOf(tooLong.split)} into ${count(tooLong.into)}</li>`]
      : []),
    ...(tooLong.truncated > 0
      ? [
          html`<li>too long, cut at the end: ${rowsOf(tooLong.truncated)}, ${count(tooLong.lostTokens)} tokens of them</li>`,
        ]
      : []),
    ...(repeated > 0 ? [html`<li>added to the training split by weights of sources: ${rowsOf(repeated)}</li>`] : []),
    ...(nearFound && rows.nearDuplicates === 0
      ? [html`<li>nearly the same as another and kept: ${rowsOf(nearFound)}</li>`]
      : []),
  ];
  return lines.length === 0 ? html`` : html`<ul class="plain soft spaced">${lines}</ul>`;
}

function sources({ sources: all }: Card): Markup {
  const names = sourceNames(all);
  const rest = restText(all.length, 'sources');
  const rows = all
    .slice(0, LISTED_MAX)
    .map(({ uri, rowsIn, kept, duplicates, dropped, sizeBytes, share, converted }, i) => {
      const lost = Object.values(dropped).reduce((sum, n) => sum + n, 0);
      return html`<tr><td class="uri" title="${uri}">${names[i] ?? uri}${converted !== null && html` <span class="soft">(${converted})</span>`}</td><td class="n">${megabytes(sizeBytes)}</td><td class="n">${count(rowsIn)}</td><td class="n">${count(kept)}</td><td class="n">${count(duplicates)}</td><td class="n">${count(lost)}</td><td class="n">${percent(share)}</td></tr>`;
    });
  return html`<section><h2>Sources</h2><div class="scroll"><table><thead><tr><th>source</th><th class="n">size</th><th class="n">rows in</th><th class="n">kept</th><th class="n">duplicates</th><th class="n">dropped</th><th class="n">of the text</th></tr></thead><tbody>${rows}</tbody></table></div>${rest !== null && html`<p class="soft">${rest}</p>`}</section>`;
}

function codes({ codes: all }: Card): Markup[] {
  if (all.length === 0) return [];
  const entries = all.map(({ code, rows, share, hint, examples }, i) => {
    const isOpen = i < OPEN_CODES && examples.length > 0;
    return html`<details${isOpen && html` open="open"`}><summary><code>${code}</code> <span class="soft">${rowsOf(rows)}, ${percent(share)}</span></summary>${hint !== null && html`<p>${prose(hint)}</p>`}${examples.map(example)}</details>`;
  });
  return [html`<section class="long"><h2>Why rows were dropped</h2>${entries}</section>`];
}

function example({ source, line, message, preview }: QuarantinedRow): Markup {
  const place = `${source} line ${line}`;
  const said = message.startsWith(place) ? message.slice(place.length).replace(/^:\s*/, '') : message;
  return html`<div class="example"><p><b>${source}:${line}</b> ${prose(said)}</p>${preview !== '' && html`<pre>${preview}</pre>`}</div>`;
}
