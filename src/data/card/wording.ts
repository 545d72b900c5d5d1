// How the card writes numbers, and what it calls things.
import type { HeldOutText } from '../../contracts/ranges.ts';

export function count(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}

/** `n rows`, `1 row`. */
export function rowsOf(n: number): string {
  return `${count(n)} ${n === 1 ? 'row' : 'rows'}`;
}

export function percent(share: number): string {
  if (share === 0) return '0 %';
  if (share < 0.0005) return '< 0.1 %';
  if (share >= 0.9995 && share < 1) return '> 99.9 %';
  // What is nearly all is not all.
  return `${(share * 100).toFixed(share < 0.1 || (share >= 0.995 && share < 1) ? 1 : 0)} %`;
}

/** At most four characters and a letter, for axes. */
export function compact(n: number): string {
  if (n < 1_000) return String(Math.round(n));
  if (n < 1e6) return `${trim(n / 1e3)}k`;
  return `${trim(n / 1e6)}M`;
}

function trim(n: number): string {
  return n < 10 ? n.toFixed(1).replace(/\.0$/, '') : String(Math.round(n));
}

export function megabytes(sizeBytes: number): string {
  if (sizeBytes < 1e3) return `${sizeBytes} B`;
  if (sizeBytes < 1e6) return `${(sizeBytes / 1e3).toFixed(1)} kB`;
  return sizeBytes < 1e9 ? `${(sizeBytes / 1e6).toFixed(1)} MB` : `${(sizeBytes / 1e9).toFixed(2)} GB`;
}

/** What preparing took, or null where it is not known. */
export function speedText({ rows, lineage: { seconds, megabytesPerSecond } }: SpeedFacts): SpeedText | null {
  if (seconds === null || seconds === 0 || megabytesPerSecond === null) return null;
  const speed = megabytesPerSecond < 10 ? megabytesPerSecond.toFixed(1) : count(megabytesPerSecond);
  return {
    time: seconds < 100 ? `${seconds.toFixed(1)} s` : `${count(seconds / 60)} min`,
    speed: `${count(rows.rowsIn / seconds)} rows, ${speed} MB a second, with waits for workers`,
  };
}

interface SpeedText {
  time: string;
  speed: string;
}

interface SpeedFacts {
  rows: { rowsIn: number };
  lineage: { seconds: number | null; megabytesPerSecond: number | null };
}

export const VERDICTS = { pass: 'PASS', warnings: 'PASS with warnings', blocked: 'BLOCKED' } as const;

const LETTERS: Record<string, string> = { s: 'system', d: 'developer', u: 'user', a: 'assistant', t: 'tool' };

/** `suaua` as `system · (user · assistant) × 2`: what is repeated is said once. */
export function rolesText(pattern: string): string {
  const lead = /^[sd]?/.exec(pattern)?.[0] ?? '';
  const rest = pattern.slice(lead.length).replace('…', '');
  const more = pattern.endsWith('…') ? ' …' : '';
  const pairs = /^(ua)+$/.test(rest) ? rest.length / 2 : 0;
  const tail = pairs > 1 ? `(user · assistant) × ${pairs}` : spell(rest);
  return [spell(lead), tail].filter((part) => part !== '').join(' · ') + more;
}

function spell(letters: string): string {
  return [...letters].map((letter) => LETTERS[letter] ?? letter).join(' · ');
}

const LANGUAGES = new Intl.DisplayNames(['en'], { type: 'language', fallback: 'code' });

export function languageText(code: string): string {
  return code === 'und' ? 'too short to tell' : (LANGUAGES.of(code) ?? code);
}

/** Steps for codes: more than these nobody reads. */
const CODES_SHOWN = 12;

/** Sources and notes that people are shown; the card's JSON has all. */
export const LISTED_MAX = 50;

/** What is said in place of the rest; null = there is none. */
export function restText(total: number, what: string): string | null {
  return total <= LISTED_MAX ? null : `and ${count(total - LISTED_MAX)} more ${what}, which the card’s JSON lists`;
}

/** Steps from the rows that came in to those that stay, each with what it takes away. */
export interface WaterfallStep {
  label: string;
  rows: number;
  kind: 'in' | 'duplicate' | 'dropped' | 'kept';
}

export function waterfallOf(rows: {
  rowsIn: number;
  kept: number;
  duplicates: number;
  nearDuplicates: number;
  leftOut: number;
  dropped: Record<string, number>;
}): WaterfallStep[] {
  const codes = Object.entries(rows.dropped).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  if (codes.length > CODES_SHOWN) {
    const others = codes.splice(CODES_SHOWN - 1);
    codes.push([`${others.length} other codes`, others.reduce((sum, [, n]) => sum + n, 0)]);
  }
  const steps: WaterfallStep[] = [
    { label: 'rows in', rows: rows.rowsIn, kind: 'in' },
    ...codes.map(([label, n]) => ({ label, rows: n, kind: 'dropped' as const })),
    { label: 'exact duplicates', rows: rows.duplicates, kind: 'duplicate' },
    { label: 'near duplicates', rows: rows.nearDuplicates, kind: 'duplicate' },
    { label: 'left out by weights', rows: rows.leftOut, kind: 'duplicate' },
    { label: 'kept', rows: rows.kept, kind: 'kept' },
  ];
  return steps.filter(({ rows: n, kind }) => n > 0 || kind === 'in' || kind === 'kept');
}

/** The proof that held-out rows are not trained on word for word. `leftOut` of all rows went after they were compared. */
export function sharedText(text: HeldOutText, leftOut: number): string {
  const { words, heldOut, shared, template, trainRows, dropped } = text;
  const left = dropped && trainRows > 0 ? `; ${rowsOf(trainRows)} that did left training` : '';
  const common = template > 0 ? `; ${count(template)} share only what more than ten training rows have` : '';
  return `${count(dropped ? 0 : shared)} of ${count(heldOut)} held-out rows${leftOut > 0 ? ', before weights,' : ''} share ${words} words in a row with training${left}${common}`;
}
