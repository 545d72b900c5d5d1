// How the card looks: one calm column, light and dark, on paper and on a phone. No font, image or script from anywhere.

export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --ink: #1f2328; --soft: #60676f; --line: #e4e5e1; --track: #eeefeb;
  --kept: #2f7d6b; --dropped: #c2604a; --duplicate: #c69a3a; --in: #7b8794; --column: #6b8fb5; --accent: #33658a;
  --validation: #8fb0cf; --test: #c7a24f; --learned: #dcefe4; --learned-ink: #14532d; --code: #f3f3f0;
  --pass: #e3f1e9; --pass-ink: #1c5f43; --warnings: #fbf1d9; --warnings-ink: #73510c; --blocked: #fae3dd; --blocked-ink: #8c2f1b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #16181b; --card: #1d2024; --ink: #e4e6e8; --soft: #9aa3ac; --line: #2f3439; --track: #292d32;
    --kept: #4fae95; --dropped: #d9806a; --duplicate: #d3ad57; --in: #7d8894; --column: #7ea6cf; --accent: #8ab6da;
    --validation: #56789b; --test: #b8954a; --learned: #1e4633; --learned-ink: #c9f0da; --code: #25292d;
    --pass: #1c3a2d; --pass-ink: #a8dfc4; --warnings: #3d3216; --warnings-ink: #f0d693; --blocked: #46241c; --blocked-ink: #f5bcab;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 920px; margin: 0 auto; padding: 40px 20px 64px; }
header p { margin: 0; color: var(--soft); }
h1 { margin: 2px 0 4px; font-size: 28px; line-height: 1.2; font-weight: 650; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { margin: 0 0 14px; font-size: 17px; font-weight: 650; }
h3 { margin: 22px 0 8px; font-size: 14px; font-weight: 600; color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 22px 24px; margin-top: 16px; }
section > p:first-of-type { margin-top: 0; }
section > :last-child { margin-bottom: 0; }
.eyebrow { font-size: 13px; }
.verdict { border: 0; padding: 16px 20px; display: flex; gap: 14px; align-items: baseline; }
.verdict strong { white-space: nowrap; letter-spacing: 0.02em; }
.verdict.pass { background: var(--pass); color: var(--pass-ink); }
.verdict.warnings { background: var(--warnings); color: var(--warnings-ink); }
.verdict.blocked { background: var(--blocked); color: var(--blocked-ink); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 16px; margin-top: 16px; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 18px; }
.figures b { display: block; font-size: 22px; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: 13px; }
.bars { display: grid; grid-template-columns: fit-content(45%) 1fr auto auto; gap: 7px 14px; align-items: center; margin: 0; }
.bars > * { min-width: 0; }
.bars .name { overflow-wrap: anywhere; }
.bars .n, td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bars .share { color: var(--soft); text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.total { font-weight: 650; }
svg { display: block; width: 100%; overflow: visible; }
.track { fill: var(--track); } .in { fill: var(--in); } .kept, .train { fill: var(--kept); }
.dropped { fill: var(--dropped); } .duplicate { fill: var(--duplicate); } .column { fill: var(--column); }
.validation { fill: var(--validation); } .test { fill: var(--test); }
.stacked { border-radius: 4px; overflow: hidden; }
.key::before { content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 8px; background: var(--swatch); }
.axis { stroke: var(--line); } .marker { stroke: var(--ink); stroke-dasharray: 2 3; } .limit { stroke: var(--dropped); stroke-width: 1.5; }
.tick, .marker-label, .limit-label { font-size: 11px; fill: var(--soft); font-variant-numeric: tabular-nums; } .limit-label { fill: var(--dropped); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
td.uri { overflow-wrap: anywhere; min-width: 11em; }
/* Each line of a text in the direction in which it is written. */
h1, td.uri, .bars .name, .example p, pre { unicode-bidi: plaintext; text-align: start; }
/* A row of some thousand tokens is scrolled, so that what stands below is found. */
.sample { max-height: 32em; overflow: auto; }
.soft { color: var(--soft); }
ul.spaced { margin-top: 14px; }
.chart + p { margin-top: 6px; }
ul.plain { list-style: none; margin: 0; padding: 0; }
ul.plain li { padding: 4px 0; }
.ok::before { content: "✓"; color: var(--kept); font-weight: 700; display: inline-block; width: 1.4em; }
.bad::before { content: "✗"; color: var(--dropped); font-weight: 700; display: inline-block; width: 1.4em; }
.open::before { content: "–"; color: var(--soft); display: inline-block; width: 1.4em; }
details { border-top: 1px solid var(--line); padding: 12px 0; }
details:first-of-type { border-top: 0; padding-top: 0; }
details:last-of-type { padding-bottom: 0; }
summary { cursor: pointer; }
summary code { font-weight: 600; }
.example { margin: 12px 0 0; padding-left: 14px; border-left: 2px solid var(--line); }
.example p { margin: 0 0 4px; overflow-wrap: anywhere; }
code, pre { font: 12.5px/1.55 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
pre { margin: 0; padding: 10px 12px; background: var(--code); border-radius: 8px; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { background: var(--learned); color: var(--learned-ink); border-radius: 3px; }
dl { display: grid; grid-template-columns: minmax(8em, auto) 1fr; gap: 6px 18px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
a { color: var(--accent); }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 40px; }
.columns > div { min-width: 0; }
@media (max-width: 640px) {
  main { padding: 24px 12px 40px; }
  section { padding: 18px 16px; }
  .columns { grid-template-columns: minmax(0, 1fr); }
  .verdict { flex-direction: column; gap: 4px; }
  .figures { grid-template-columns: 1fr 1fr; gap: 12px; }
  .figures div:last-child:nth-child(odd) { grid-column: 1 / -1; }
  .bars { grid-template-columns: minmax(0, 1fr) auto auto; grid-auto-flow: dense; gap: 2px 12px; }
  .bars .bar { grid-column: 1 / -1; margin-bottom: 8px; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: 8px; }
}
@media print {
  :root { color-scheme: light; }
  body { background: #fff; font-size: 11pt; }
  main { max-width: none; padding: 0; }
  section, .figures div { break-inside: avoid; border-color: #ddd; }
  section.long { break-inside: auto; }
  .sample { max-height: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
