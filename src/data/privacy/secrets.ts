// Finds keys and passwords: by the forms that their issuers gave them, and random tokens behind words such as "secret".
import type { Finding } from './findings.ts';
import { findTokenRun, LONG_TOKEN, type Run, signalsOf, TOKEN_CHARS_MIN } from './signals.ts';

/** Within one run of token characters. */
const ISSUED = new RegExp(
  [
    '(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z\\d])', // AWS access key id
    'sk-(?:[a-z]+\\d*-)*[A-Za-z\\d]{32,}(?![\\w-])', // OpenAI and those who took its form
    'gh[pousr]_[A-Za-z\\d]{36,}', // GitHub
    'github_pat_[A-Za-z\\d]{22}_[A-Za-z\\d]{20,}',
    'glpat-[\\w-]{20,}', // GitLab
    'AIza[\\w-]{35}', // Google
    'xox[abeoprs]-[A-Za-z\\d-]{16,}', // Slack
    'xapp-\\d-[A-Za-z\\d-]{16,}',
    '(?:sk|rk)_(?:live|test)_[A-Za-z\\d]{16,}', // Stripe
    'whsec_[A-Za-z\\d+/]{24,}=*',
    'npm_[A-Za-z\\d]{36}',
    'hf_[A-Za-z\\d]{34}', // Hugging Face
    'dop_v1_[a-f\\d]{64}', // DigitalOcean
    'shp(?:at|ca|pa|ss)_[A-Fa-f\\d]{32}', // Shopify
  ]
    .map((form) => `(?<![A-Za-z\\d])${form}`)
    .join('|'),
  'g',
);
/** With other characters or shorter it may be the name of a library. */
const SK_KEY = /(?<![\w-])sk-(?:[a-z]+\d*-)*([\w-]{20,})/g;

/** Over several runs of token characters. */
const JWT = /(?<![\w.-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]{8,})?/g;
const SENDGRID = /(?<![\w.-])SG\.[\w-]{22}\.[\w-]{43}/g;
const SLACK_HOOK = /hooks\.slack\.com\/(?:services|workflows)\/[\w/]{24,}/g;
const PRIVATE_KEY = /-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[^-<]{16,}(?:-----END [A-Z ]{0,40}-----)?/g;
const URL_PASSWORD = /(?<=:\/\/[^\s:/@<>"']{0,100}:)[^\s:/@<>"']{1,200}(?=@[\w.[-])/g;

const NAME_BEFORE =
  /(?:secret|token|password|passwd|passwort|kennwort|contraseña|senha|mot de passe|pwd|api[ _-]?key|apikey|access[ _-]?key|account[ _-]?key|private[ _-]?key|signing[ _-]?key|encryption[ _-]?key|credentials?|authorization|bearer|\bkey)(?:[ _-]?(?:id|value))?["'`\\]*\s*(?:(?:is|ist|es|est|was|:|=|=>|:=|->)\s*)?(?:(?:bearer|basic|token)\s+)?["'`\\]*$/i;
const PUBLIC_BEFORE = /(?:gpg|pgp|public|primary|foreign)[ _-]?key\W*$/i;
const NAME_CHARS = 48;

/** What stands for a password in an example. */
const PLACEHOLDER = /^(?:\*+|x+|pass|passwd|password|pwd|secret|guest|%\w|\$?\{+\w+\}+|\$\w+|\[\w+\])$/i;

export function findSecrets(text: string): Finding[] {
  const runs: Finding[][] = [];
  for (let run = findTokenRun(text, 0); run !== null; run = findTokenRun(text, run.end)) runs.push(inRun(text, run));
  return [
    ...runs,
    text.includes('AKIA') || text.includes('ASIA') ? matches(text, ISSUED) : [],
    text.includes('eyJ') ? matches(text, JWT) : [],
    text.includes('SG.') ? matches(text, SENDGRID) : [],
    text.includes('hooks.slack.com') ? matches(text, SLACK_HOOK) : [],
    text.includes('-----BEGIN') ? matches(text, PRIVATE_KEY) : [],
  ].flat();
}

/** `postgres://user:password@host`: the password. */
export function findUrlPasswords(text: string): Finding[] {
  if (!text.includes('://')) return [];
  return [...text.matchAll(URL_PASSWORD)]
    .filter(({ 0: value }) => !PLACEHOLDER.test(value))
    .map(({ 0: value, index }) => secret(index, value));
}

/** What the signal would not have seen is left out, so that both always agree. */
function matches(text: string, form: RegExp): Finding[] {
  return [...text.matchAll(form)]
    .filter(({ 0: value }) => (signalsOf(value) & LONG_TOKEN) !== 0)
    .map(({ 0: value, index }) => secret(index, value));
}

function inRun(text: string, { start, end }: Run): Finding[] {
  const run = text.slice(start, end);
  const findings = [...run.matchAll(ISSUED)].map(({ 0: value, index }) => secret(start + index, value));
  for (const { 0: value, 1: key = '', index } of run.matchAll(SK_KEY))
    if (isRandom(key)) findings.push(secret(start + index, value));
  return findings.length > 0 ? findings : namedToken(text, run, start);
}

/** The token is the run, or what stands behind the `=` in it. */
function namedToken(text: string, run: string, start: number): Finding[] {
  const assigned = /^[\w-]*=+(?=[^=])/.exec(run)?.[0].length ?? 0;
  const value = run.slice(assigned);
  if (value.length < TOKEN_CHARS_MIN || !isRandom(value)) return [];
  const at = start + assigned;
  const before = text.slice(Math.max(0, at - NAME_CHARS), at);
  return NAME_BEFORE.test(before) && !PUBLIC_BEFORE.test(before) ? [secret(at, value)] : [];
}

function secret(start: number, value: string): Finding {
  return { type: 'secret', start, end: start + value.length, value };
}

const UUID = /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/i;
/** Bits a character; words of a language have about 3 at these lengths, but few digits and long runs of small letters. */
const ENTROPY_MIN = 3;
const SMALL_LETTERS_MAX = 7;
/** Tokens of this length are taken for one with a single digit. */
const LONG_TOKEN_CHARS = 32;

/** Hex of 32 digits and more, or a mix of small letters, capitals and digits as no name has it. */
function isRandom(token: string): boolean {
  return (isLongHex(token) || isMixed(token)) && !UUID.test(token) && entropyOf(token) >= ENTROPY_MIN;
}

function isLongHex(token: string): boolean {
  return /^(?:[\da-f]{32,}|[\dA-F]{32,})$/.test(token) && /[a-f]/i.test(token) && /\d/.test(token);
}

function isMixed(token: string): boolean {
  if (!/[A-Z]/.test(token) || !/[a-z]/.test(token)) return false;
  const digits = token.replaceAll(/\D/g, '').length;
  const longest = Math.max(...token.split(/[^a-z]/).map((letters) => letters.length));
  return digits >= (token.length < LONG_TOKEN_CHARS ? 2 : 1) && longest <= SMALL_LETTERS_MAX;
}

/** Shannon, bits a character. */
function entropyOf(token: string): number {
  const counts = new Map<string, number>();
  for (const character of token) counts.set(character, (counts.get(character) ?? 0) + 1);
  return [...counts.values()].reduce((bits, n) => bits - (n / token.length) * Math.log2(n / token.length), 0);
}
