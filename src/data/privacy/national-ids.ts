// Finds national ids of eleven countries. Where the form alone says little, the id's name must stand before it.
import { modulo, passesMod1110, passesVerhoeff, weighted } from './check-digits.ts';
import type { Finding } from './findings.ts';
import { findTokenRun } from './signals.ts';

interface IdRule {
  pattern: RegExp;
  /** Of the bare characters. */
  passes: (id: string) => boolean;
  /** Must stand within `CONTEXT_CHARS` before it. */
  context?: RegExp;
}

const CONTEXT_CHARS = 40;

const SOCIAL_SECURITY = /\b(?:ssn|social security)\b/i;

const RULES: readonly IdRule[] = [
  // United States
  { pattern: /(?<![\w-])(?<!\d[.,])\d{3}-\d{2}-\d{4}(?![\w-]|\.\d)/g, passes: isSsn },
  { pattern: /(?<![\w-])\d{3} ?\d{2} ?\d{4}(?![\w-]|\.\d)/g, passes: isSsn, context: SOCIAL_SECURITY },
  // United Kingdom
  {
    pattern:
      /(?<![A-Za-z\d])(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?![A-Za-z\d]|-\d)/g,
    passes: () => true,
  },
  // France
  {
    pattern:
      /(?<![\w.,-])[1-478] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?![\w-]|[.,]\d)/g,
    passes: isNir,
  },
  // Germany
  { pattern: /(?<![\w.,+-])[1-9]\d(?: ?\d{3}){3}(?![\w-]|[ .,]\d)/g, passes: isTaxId },
  // Spain
  { pattern: /(?<![\w.,-])(?:\d{8}|\d{2}\.\d{3}\.\d{3})-?[A-HJ-NP-TV-Z](?![\w-])/g, passes: isDni },
  { pattern: /(?<![\w-])[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z](?![\w-])/g, passes: isDni },
  // Netherlands
  {
    pattern: /(?<![\w.,-])(?:\d{9}|\d{4}\.\d{2}\.\d{3}|\d{3} \d{3} \d{3})(?![\w-]|[.,]\d)/g,
    passes: isBsn,
    context: /\b(?:bsn|burgerservicenummer|sofi-?nummer)\b/i,
  },
  // Poland
  { pattern: /(?<![\w.,+-])\d{11}(?![\w-]|[.,]\d)/g, passes: isPesel },
  // Brazil
  { pattern: /(?<![\w.,+-])(?:\d{11}|\d{3}\.\d{3}\.\d{3}-\d{2})(?![\w-]|[.,]\d)/g, passes: isCpf },
  // India
  { pattern: /(?<![\w.,+-])(?<!\d )[2-9]\d{3}([ -])\d{4}\1\d{4}(?![\w]|[ .,-]\d)/g, passes: passesVerhoeff },
  {
    pattern: /(?<![\w.,+-])[2-9]\d{11}(?![\w-]|[.,]\d)/g,
    passes: passesVerhoeff,
    context: /(?:\baadha+r\b|\buidai\b|आधार)/i,
  },
  // China
  {
    pattern:
      /(?<![A-Za-z\d.,-])[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![A-Za-z\d-])/g,
    passes: isResidentId,
  },
];

/** Italy's: its digits stand apart, so that it is looked for among tokens. */
const CODICE_FISCALE =
  /(?<![A-Za-z\d])[A-Z]{6}[\dLMNP-V]{2}[ABCDEHLMPRST][\dLMNP-V]{2}[A-Z][\dLMNP-V]{3}[A-Z](?![A-Za-z\d])/gi;

export function findCodiciFiscali(text: string): Finding[] {
  const findings: Finding[] = [];
  for (let run = findTokenRun(text, 0); run !== null; run = findTokenRun(text, run.end))
    for (const { 0: matched, index } of text.slice(run.start, run.end).matchAll(CODICE_FISCALE)) {
      const value = matched.toUpperCase();
      const start = run.start + index;
      if (isCodiceFiscale(value)) findings.push({ type: 'national_id', start, end: start + matched.length, value });
    }
  return findings;
}

export function findNationalIds(text: string): Finding[] {
  const findings: Finding[] = [];
  for (const { pattern, passes, context } of RULES)
    for (const { 0: matched, index } of text.matchAll(pattern)) {
      const value = matched.replaceAll(/[ .-]/g, '').toUpperCase();
      if (!passes(value) || !(context?.test(text.slice(Math.max(0, index - CONTEXT_CHARS), index)) ?? true)) continue;
      findings.push({ type: 'national_id', start: index, end: index + matched.length, value });
    }
  return findings;
}

/** Areas, groups and numbers that were never given out, and two numbers that stood in advertisements. */
function isSsn(id: string): boolean {
  const [area, group, serial] = [id.slice(0, 3), id.slice(3, 5), id.slice(5)];
  if (area === '000' || area === '666' || area >= '900' || group === '00' || serial === '0000') return false;
  return id !== '078051120' && id !== '219099999';
}

/** Corsica's departments count as 19 and 18. */
function isNir(id: string): boolean {
  const digits = id.replace('2A', '19').replace('2B', '18');
  return 97 - modulo(digits.slice(0, 13), 97) === Number(digits.slice(13));
}

/** Among the first ten digits one stands twice or three times, and no other more than once. */
function isTaxId(id: string): boolean {
  const counts = [...'0123456789'].map((digit) => id.slice(0, 10).split(digit).length - 1).filter((count) => count > 1);
  return counts.length === 1 && (counts[0] as number) <= 3 && passesMod1110(id);
}

function isDni(id: string): boolean {
  const digits = id.slice(0, -1).replace(/^[XYZ]/, (letter) => String('XYZ'.indexOf(letter)));
  return 'TRWAGMYFPDXBNJZSQVHLCKE'[Number(digits) % 23] === id.at(-1);
}

const ODD_VALUES = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];

/** A digit is what `signals` looks for. */
function isCodiceFiscale(id: string): boolean {
  let sum = 0;
  for (const [i, character] of [...id.slice(0, 15)].entries()) {
    const value = /\d/.test(character) ? Number(character) : character.charCodeAt(0) - 65;
    sum += i % 2 === 0 ? (ODD_VALUES[value] as number) : value;
  }
  return /\d/.test(id) && String.fromCharCode(65 + (sum % 26)) === id[15];
}

function isBsn(id: string): boolean {
  return !/^0+$/.test(id) && weighted(id, [9, 8, 7, 6, 5, 4, 3, 2, -1]) % 11 === 0;
}

/** The month tells the century: 80 = 18xx, 0 = 19xx, 20 = 20xx and so on. */
function isPesel(id: string): boolean {
  const month = Number(id.slice(2, 4)) % 20;
  const day = Number(id.slice(4, 6));
  if (month < 1 || month > 12 || day < 1 || day > 31) return false;
  return weighted(id, [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]) % 10 === 0;
}

function isCpf(id: string): boolean {
  if (/^(\d)\1*$/.test(id)) return false;
  const check = (weights: readonly number[]) => ((weighted(id, weights) * 10) % 11) % 10;
  return (
    check([10, 9, 8, 7, 6, 5, 4, 3, 2]) === Number(id[9]) && check([11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) === Number(id[10])
  );
}

function isResidentId(id: string): boolean {
  const sum = weighted(id, [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
  return '10X98765432'[sum % 11] === id[17];
}
