// Finds card numbers and IBANs by their check digits, lengths and issuers.
import { passesIban, passesLuhn } from './check-digits.ts';
import type { Finding } from './findings.ts';

const CARD = /(?<![\w.,+-])\d(?:[ -]?\d){11,18}(?![\w]|[.,-]\d)/g;

/** Prefixes and lengths of those who issue cards. */
const ISSUERS: readonly (readonly [prefix: RegExp, lengths: readonly number[]])[] = [
  [/^4/, [16, 19]], // Visa
  [/^(?:5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/, [16]], // Mastercard
  [/^3[47]/, [15]], // American Express
  [/^(?:6011|64[4-9]|65)/, [16, 19]], // Discover
  [/^(?:30[0-5]|36|3[89])/, [14, 16]], // Diners Club
  [/^35(?:2[89]|[3-8])/, [16]], // JCB
  [/^62/, [16, 17, 18, 19]], // UnionPay
  [/^220[0-4]/, [16, 17, 18, 19]], // Mir
  [/^(?:5041|506[67]|509|636[23])/, [16]], // Elo
  [/^(?:606282|3841)/, [16]], // Hipercard
  [/^(?:508[5-9]|60[78]|652[12])/, [16]], // RuPay
  [/^(?:5018|5020|5038|5893|6304|6759|676[1-3])/, [12, 13, 14, 15, 16, 17, 18, 19]], // Maestro
];

export function findCards(text: string): Finding[] {
  const findings: Finding[] = [];
  for (const { 0: matched, index } of text.matchAll(CARD)) {
    const value = matched.replaceAll(/[ -]/g, '');
    if (isCard(value)) findings.push({ type: 'card', start: index, end: index + matched.length, value });
  }
  return findings;
}

function isCard(digits: string): boolean {
  return (
    ISSUERS.some(([prefix, lengths]) => lengths.includes(digits.length) && prefix.test(digits)) && passesLuhn(digits)
  );
}

const IBAN = /(?<![A-Za-z\d])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z\d]){11,42}/g;
/** What `signals` looks for; every country's accounts have them. */
const SEVEN_DIGITS = /\d(?:[ -]?\d){6}/;

/** By country: characters of its IBANs. */
const IBAN_CHARS: Readonly<Record<string, number>> = Object.fromEntries(
  'AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20'
    .split(' ')
    .map((entry) => [entry.slice(0, 2), Number(entry.slice(2))]),
);

export function findIbans(text: string): Finding[] {
  const findings: Finding[] = [];
  IBAN.lastIndex = 0;
  for (let match = IBAN.exec(text); match !== null; match = IBAN.exec(text)) {
    const { 0: matched, index } = match;
    const iban = cutToCountry(matched, text[index + matched.length] ?? '');
    const value = iban === null ? '' : bare(iban);
    const isIban = iban !== null && SEVEN_DIGITS.test(iban) && passesIban(value);
    if (isIban) findings.push({ type: 'iban', start: index, end: index + iban.length, value });
    // The next one may have been taken for its last groups.
    IBAN.lastIndex = index + (isIban ? iban.length : 4);
  }
  return findings;
}

/** The words behind an IBAN look like more groups of it: what the country's length takes, when it ends there. */
function cutToCountry(matched: string, behind: string): string | null {
  const chars = IBAN_CHARS[matched.slice(0, 2).toUpperCase()];
  if (chars === undefined) return null;
  let end = 0;
  for (let taken = 0; taken < chars && end < matched.length; end++) if (!/[ -]/.test(matched.charAt(end))) taken++;
  const iban = matched.slice(0, end);
  return bare(iban).length === chars && !/[A-Za-z\d]/.test(matched[end] ?? behind) ? iban : null;
}

function bare(iban: string): string {
  return iban.replaceAll(/[ -]/g, '').toUpperCase();
}
