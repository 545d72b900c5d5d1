// Tells at a glance which kinds of personal data a text may hold. A kind whose signal is absent is certainly not there: the
// detectors are bound to that. Numbers and tokens are looked for from digit to digit, which regular expressions find fastest.
import { ANY_DIGIT, CLASSES, DIGIT, HEX, SEPARATOR, TELLING_ESCAPE, TOKEN, toPlain } from './characters.ts';

export const AT_SIGN = 1;
/** A run of digits and separators that may be a number of a person. */
export const NUMBER = 2;
/** A run that may be a key or a token. */
export const LONG_TOKEN = 4;
export const IPV6 = 8;
const ALL_SIGNALS = AT_SIGN | NUMBER | LONG_TOKEN | IPV6;

/** Digits of the shortest phone number or id. */
export const NUMBER_DIGITS_MIN = 7;
/** Six digits between letters are a British NINO. */
export const NINO_DIGITS = 6;
/** Characters of the shortest token that is taken for a secret, and of an Italian tax code. */
export const TOKEN_CHARS_MIN = 16;

/** What a text holds; of JSON text, what the strings in it may hold. */
export function signalsOfJson(json: string): number {
  if (json.includes('\\u') && TELLING_ESCAPE.test(json)) return ALL_SIGNALS;
  // The escaped slash would cut tokens.
  return signalsOf(json.includes('\\/') ? json.replaceAll('\\/', '/') : json);
}

export function signalsOf(text: string): number {
  return (
    (text.includes('@') || text.includes('＠') ? AT_SIGN : 0) |
    (findNumberRun(text, 0) === null ? 0 : NUMBER) |
    (mayHoldToken(text) ? LONG_TOKEN : 0) |
    (mayHoldIpv6(text) ? IPV6 : 0)
  );
}

/** Where a run stands: [start, end). */
export interface Run {
  start: number;
  end: number;
}

/** The first run of digits and separators from `from` on that may be a number of a person. */
export function findNumberRun(text: string, from: number): Run | null {
  return findRun(text, from, DIGIT | SEPARATOR, (run) => mayBeNumber(text, run));
}

/** The first run from `from` on that is long enough for a token and has a digit. */
export function findTokenRun(text: string, from: number): Run | null {
  return findRun(text, from, TOKEN, ({ start, end }) => end - start >= TOKEN_CHARS_MIN);
}

function mayHoldToken(text: string): boolean {
  return findTokenRun(text, 0) !== null || mayHoldKeyOfLetters(text);
}

/** Keys of AWS may do without digits, those of Hugging Face have none. */
export function mayHoldKeyOfLetters(text: string): boolean {
  return text.includes('AKIA') || text.includes('ASIA') || text.includes('hf_');
}

/** The first run of the classes around a digit that passes. */
function findRun(text: string, from: number, classes: number, passes: (run: Run) => boolean): Run | null {
  let left = from;
  for (let digit = nextDigit(text, left); digit !== -1; digit = nextDigit(text, left)) {
    const run = { start: startOfRun(text, digit, left, classes), end: endOfRun(text, digit + 1, classes) };
    if (passes(run)) return run;
    left = run.end;
  }
  return null;
}

function nextDigit(text: string, from: number): number {
  ANY_DIGIT.lastIndex = from;
  return ANY_DIGIT.test(text) ? ANY_DIGIT.lastIndex - 1 : -1;
}

function startOfRun(text: string, digit: number, least: number, classes: number): number {
  let start = digit;
  while (start > least && ((CLASSES[text.charCodeAt(start - 1)] as number) & classes) !== 0) start--;
  return start;
}

function endOfRun(text: string, from: number, classes: number): number {
  let end = from;
  while (end < text.length && ((CLASSES[text.charCodeAt(end)] as number) & classes) !== 0) end++;
  return end;
}

function countDigits(text: string, { start, end }: Run): number {
  let digits = 0;
  for (let i = start; i < end; i++) digits += (CLASSES[text.charCodeAt(i)] as number) & DIGIT;
  return digits;
}

const DATE = /^[ ()/.\\-]*(?:\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2\d{4})(?: +\d{1,2})?[ ()/.\\-]*$/;
const FOUR_OCTETS = /\d\.\d{1,3}\.\d{1,3}\.\d/;

function mayBeNumber(text: string, run: Run): boolean {
  const digits = countDigits(text, run);
  if (digits >= NUMBER_DIGITS_MIN) return digits > 10 || !DATE.test(text.slice(run.start, run.end));
  if (digits === NINO_DIGITS && mayBeNino(text, run)) return true;
  return digits >= 4 && mayBeOctets(text, run);
}

function mayBeNino(text: string, { start, end }: Run): boolean {
  const before = text.charCodeAt(start - 1);
  const after = text.charCodeAt(end);
  return before >= 65 && before <= 90 && after >= 65 && after <= 68;
}

function mayBeOctets(text: string, { start, end }: Run): boolean {
  return FOUR_OCTETS.test(toPlain(text.slice(start, end)));
}

/** Public addresses begin with 2 or 3 and three hex digits, private ones with f. */
function mayHoldIpv6(text: string): boolean {
  for (let at = text.indexOf(':'); at !== -1; at = text.indexOf(':', at + 1))
    if (isAfterHexGroup(text, at)) return true;
  return false;
}

function isAfterHexGroup(text: string, colon: number): boolean {
  for (let i = colon - 4; i < colon; i++) if (((CLASSES[text.charCodeAt(i)] as number) & HEX) === 0) return false;
  return '23fF'.includes(text.charAt(colon - 4)) && /^[\da-f:]/i.test(text.charAt(colon + 1));
}
