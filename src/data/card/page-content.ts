// The card's part on what is in the rows: turns, roles, languages, repeats, personal data, and how they differ from the dataset before.
import type { Card } from '../../contracts/card.ts';
import { shareBar } from './charts.ts';
import { html, type Markup } from './markup.ts';
import { count, languageText, percent, rolesText } from './wording.ts';

const TURNS_SHOWN = 12;

export function contentSections(card: Card): Markup[] {
  return [...(wellFormed(card) > 0 ? [content(card)] : []), ...repeats(card), ...privacy(card), ...drift(card)];
}

function content(card: Card): Markup {
  const { rolePatterns, languages, systemPrompts, features, sampledRows } = card;
  const roles = rolePatterns.map((one) => ({ ...one, text: rolesText(one.text) }));
  const spoken = languages.map((one) => ({ ...one, text: languageText(one.text) }));
  const with_ = Object.entries(features).map(([text, n]) => ({ text, rows: n, share: rowShare(n, card) }));
  return html`<section><h2>What is in the rows</h2><p class="soft">Of the ${count(wellFormed(card))} rows that are well formed, before duplicates are taken out${sampledRows < wellFormed(card) && `; order of roles, languages and texts of a sample of ${count(sampledRows)}`}.</p><div class="columns">
${barList('Messages in a chat', turnBars(card), 'column')}
${barList('Order of roles', roles, 'column')}
${barList('Languages', spoken, 'column')}
${barList('Rows with', with_, 'column')}
</div>${texts('Commonest system messages', systemPrompts)}</section>`;
}

function wellFormed({ characters }: Card): number {
  return characters.histogram.reduce((sum, n) => sum + n, 0);
}

function rowShare(n: number, card: Card): number {
  return n / wellFormed(card);
}

function turnBars(card: Card): Card['rolePatterns'] {
  const turns = Object.entries(card.turns).map(([turn, n]) => ({ turn: Number(turn), n }));
  turns.sort((a, b) => a.turn - b.turn);
  const shown = turns.slice(0, TURNS_SHOWN).map(({ turn, n }) => ({
    ...{ text: turn >= 100 ? '100 or more' : String(turn), rows: n, share: rowShare(n, card) },
  }));
  const rest = turns.slice(TURNS_SHOWN).reduce((sum, { n }) => sum + n, 0);
  return rest === 0 ? shown : [...shown, { text: 'more', rows: rest, share: rowShare(rest, card) }];
}

function barList(title: string, bars: Card['rolePatterns'], kind: string): Markup {
  if (bars.length === 0) return html``;
  const lines = bars.map(
    ({ text, rows, share }) =>
      html`<span class="name">${text}</span>${shareBar(0, share, kind)}<span class="n">${count(rows)}</span><span class="share">${percent(share)}</span>`,
  );
  return html`<div><h3>${title}</h3><div class="bars">${lines}</div></div>`;
}

function texts(title: string, top: Card['systemPrompts']): Markup {
  if (top.length === 0) return html``;
  const rows = top.map(
    ({ text, rows: n, share }) =>
      html`<tr><td class="uri">${text}</td><td class="n">${count(n)}</td><td class="n">${percent(share)}</td></tr>`,
  );
  return html`<h3>${title}</h3><div class="scroll"><table><tbody>${rows}</tbody></table></div>`;
}

function repeats({ rows, nearFound, duplicateClusters, topAnswers }: Card): Markup[] {
  if (rows.duplicates === 0 && (nearFound ?? 0) === 0 && topAnswers.length === 0) return [];
  const clusters = duplicateClusters.map(
    ({ text, rows: n }) => html`<tr><td class="uri">${text}</td><td class="n">${count(n)} times</td></tr>`,
  );
  return [
    html`<section><h2>Repeats</h2><p>Exact duplicates of an earlier row, left out: ${count(rows.duplicates)}. ${nearSentence(nearFound, rows.nearDuplicates)}</p>${clusters.length > 0 && html`<h3>Rows that stand there most often</h3><div class="scroll"><table><tbody>${clusters}</tbody></table></div>`}${texts('Commonest answers', topAnswers)}</section>`,
  ];
}

function nearSentence(found: number | null, dropped: number): string {
  if (found === null) return 'Near duplicates were not looked for.';
  return `Nearly the same as another row: ${count(found)}, of which ${count(dropped)} were left out.`;
}

const ACTIONS: Record<string, string> = {
  warn: 'left as they are',
  mask: 'masked',
  pseudonymise: 'replaced by a pseudonym',
  drop: 'their rows dropped',
  block: 'their rows dropped, and the run refused',
};

function privacy({ pii, rows: { rowsIn } }: Card): Markup[] {
  if (rowsIn === 0) return [];
  if (pii.length === 0)
    return [
      html`<section><h2>Personal data and secrets</h2><p class="ok">None was found by the detectors.</p></section>`,
    ];
  const rows = pii.map(
    ({ type, found, action }) =>
      html`<tr><td>${type.replace('_', ' ')}</td><td class="n">${count(found)}</td><td>${ACTIONS[action] ?? action}</td></tr>`,
  );
  return [
    html`<section><h2>Personal data and secrets</h2><div class="scroll"><table><thead><tr><th>type</th><th class="n">found</th><th>what was done</th></tr></thead><tbody>${rows}</tbody></table></div></section>`,
  ];
}

function drift({ drift: found }: Card): Markup[] {
  if (found === null) return [];
  const rows = found.distributions.map(
    ({ name, psi, threshold, drifted }) =>
      html`<tr><td class="${drifted ? 'bad' : 'ok'}">${name}</td><td class="n">${psi.toFixed(3)}</td><td class="n">${threshold.toFixed(2)}</td></tr>`,
  );
  return [
    html`<section><h2>Against the dataset before</h2><p class="soft">Population stability index against dataset <code>${found.against.slice(0, 12)}</code>; above the limit a distribution has moved.</p><div class="scroll"><table><thead><tr><th>distribution</th><th class="n">index</th><th class="n">limit</th></tr></thead><tbody>${rows}</tbody></table></div>${fields('New fields', found.newFields)}${fields('Missing fields', found.missingFields)}</section>`,
  ];
}

function fields(title: string, names: string[]): Markup {
  if (names.length === 0) return html``;
  return html`<h3>${title}</h3><p>${names.map((name) => html`<code>${name}</code> `)}</p>`;
}
