// The card's part on splits, what keeps them apart, and lengths.
import type { Card, CardLengths } from '../../contracts/card.ts';
import { lengthHistogram, type Marker, stackedBar } from './charts.ts';
import { html, type Markup } from './markup.ts';
import { compact, count, percent, rowsOf, sharedText } from './wording.ts';

const SWATCHES = { train: 'var(--kept)', validation: 'var(--validation)', test: 'var(--test)' } as const;

export function splitSections(card: Card): Markup[] {
  return [...splits(card), ...lengths(card), ...mask(card)];
}

function splits(card: Card): Markup[] {
  const total = card.splits.reduce((sum, { rows }) => sum + rows, 0);
  if (total === 0) return [];
  const shown = card.splits.filter(({ rows }) => rows > 0);
  const bar = stackedBar(shown.map(({ name, rows }) => ({ share: rows / total, kind: name })));
  const hasTokens = shown.some(({ tokens }) => tokens !== null);
  const rows = shown.map(
    ({ name, rows: n, tokens, trainableTokens }) =>
      html`<tr><td class="key" style="--swatch: ${SWATCHES[name]}">${name}</td><td class="n">${count(n)}</td><td class="n">${percent(n / total)}</td>${hasTokens && html`<td class="n">${count(tokens ?? 0)}</td><td class="n">${count(trainableTokens ?? 0)}</td>`}</tr>`,
  );
  return [
    html`<section><h2>Splits</h2>${bar}<div class="scroll"><table><thead><tr><th>split</th><th class="n">rows</th><th class="n">share</th>${hasTokens && html`<th class="n">tokens</th><th class="n">learned</th>`}</tr></thead><tbody>${rows}</tbody></table></div>${leakage(card)}</section>`,
  ];
}

function leakage({ leakage: found, nearFound, rows: { leftOut } }: Card): Markup {
  if (found === null) return html``;
  const { sharedGroups, sharedRows, nearCrossing, evals, heldOutText } = found;
  return html`<h3>What holds them apart</h3><ul class="plain">
${check(sharedGroups, sharedGroups === null ? 'groups in two splits were too many to count' : `${count(sharedGroups)} groups stand in two splits`)}
${check(sharedRows, `${count(sharedRows)} rows stand in two splits`)}
${check(nearFound === null ? null : nearCrossing, nearFound === null ? 'near duplicates across splits were not looked for' : `${count(nearCrossing)} training rows are nearly the same as a held-out one`)}
${heldOutText === null ? check(null, 'words in a row that held-out rows share with training were not looked for') : check(heldOutText.dropped ? 0 : heldOutText.shared, sharedText(heldOutText, leftOut))}
${evals.length === 0 ? check(null, 'no evaluation suite was named to compare with') : evals.map(({ name, rows }) => check(0, `compared with ${name}: ${rowsOf(rows)} left training`))}
</ul>`;
}

/** @param n how many are wrong; null = not known. */
function check(n: number | null, text: string): Markup {
  return html`<li class="${n === null ? 'open' : n === 0 ? 'ok' : 'bad'}">${text}</li>`;
}

function lengths({ characters, answers, tokens, tooLong, packing }: Card): Markup[] {
  if (characters.max === null) return [];
  const limit: Marker = { label: `limit ${compact(tooLong.maxLength)}`, at: tooLong.maxLength, isLimit: true };
  return [
    html`<section><h2>Lengths</h2>
${tokens !== null && html`<h3>Tokens of a training row</h3>${lengthHistogram(tokens.histogram, [...markersOf(tokens), limit], 'Histogram of tokens of a training row')}${numbers(tokens)}${overLength(tooLong)}${packing !== null && html`<p>Packed to ${count(packing.room)} tokens an epoch has ${rowsOf(packing.rows)}, ${percent(packing.fill)} full.</p>`}`}
<h3>Characters of a row</h3>${lengthHistogram(characters.histogram, markersOf(characters), 'Histogram of characters of a row')}${numbers(characters)}
${answers.histogram.length > 0 && html`<h3>Characters of an answer</h3>${lengthHistogram(answers.histogram, markersOf(answers), 'Histogram of characters of an answer')}${numbers(answers)}`}
</section>`,
  ];
}

function markersOf({ p50, p95 }: CardLengths): Marker[] {
  return [
    ...(p50 === null ? [] : [{ label: 'p50', at: p50 }]),
    ...(p95 === null || p95 === p50 ? [] : [{ label: 'p95', at: p95 }]),
  ];
}

function numbers({ p50, p95, p99, max }: CardLengths): Markup {
  const text = (n: number | null) => (n === null ? '–' : count(n));
  return html`<p class="soft">half of them up to ${text(p50)}, 95 % up to ${text(p95)}, 99 % up to ${text(p99)}, the longest ${text(max)}</p>`;
}

function overLength({ maxLength, dropped, truncated, lostTokens, split, into, lostTurns }: Card['tooLong']): Markup {
  if (dropped + truncated + split === 0)
    return html`<p>No row is longer than <code>data.maxLength</code> ${count(maxLength)}.</p>`;
  const parts = [
    ...(dropped > 0 ? [`${count(dropped)} dropped`] : []),
    ...(truncated > 0 ? [`${count(truncated)} cut at the end (${count(lostTokens)} tokens)`] : []),
    ...(split > 0 ? [`${count(split)} split into ${count(into)}`] : []),
  ];
  if (lostTurns > 0) parts.push(`${count(lostTurns)} turns fit nowhere`);
  return html`<p>Rows longer than <code>data.maxLength</code> ${count(maxLength)}: ${parts.join(', ')}.</p>`;
}

/** One row as the model sees it. */
function mask({ sample }: Card): Markup[] {
  if (sample.length === 0) return [];
  const pieces = sample.map(({ text, trainable }) => (trainable ? html`<mark>${text}</mark>` : html`${text}`));
  return [
    html`<section><h2>One training row as the model sees it</h2><p class="soft">It learns what is <mark>marked</mark> and reads the rest.</p><pre class="sample" tabindex="0">${pieces}</pre></section>`,
  ];
}
