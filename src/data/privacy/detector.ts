// Puts the detectors together: only those run whose signal the text gives, and those of numbers only around numbers.
import { isSupportedCountry } from 'libphonenumber-js/max';
import { AnnealError } from '../../contracts/failure.ts';
import type { PiiType, PrivacyRules } from '../../contracts/privacy-rules.ts';
import { findCards, findIbans } from './cards.ts';
import { toPlain } from './characters.ts';
import { findEmails } from './emails.ts';
import { type Detector, type Finding, withoutOverlaps } from './findings.ts';
import { findIpAddresses } from './ip-addresses.ts';
import { findCodiciFiscali, findNationalIds } from './national-ids.ts';
import { findPhones, phoneRegionOf } from './phones.ts';
import { findSecrets, findUrlPasswords } from './secrets.ts';
import { AT_SIGN, findNumberRun, IPV6, LONG_TOKEN, NUMBER, type Run, signalsOf } from './signals.ts';

/** What the detectors of numbers see before a number, for words that name it, and behind it. */
const CHARS_BEFORE = 64;
const CHARS_BEHIND = 40;

type DetectorRules = Pick<PrivacyRules, 'phoneRegions' | 'privateAddresses'>;

/** @throws AnnealError `bad_request` for a region that libphonenumber does not know. */
export function createDetector(
  { phoneRegions, privateAddresses }: DetectorRules,
  isWanted: (type: PiiType) => boolean,
): Detector {
  const unknown = phoneRegions.find((region) => !isSupportedCountry(region));
  if (unknown !== undefined)
    throw new AnnealError(
      'bad_request',
      `\`data.privacy.phoneRegions\` has ${unknown}, which is no country with phone numbers; correct it.`,
    );
  const regions = phoneRegions.map(phoneRegionOf);
  const inWindow = (plain: string, original: string): Finding[] => {
    const found = [
      isWanted('card') ? findCards(plain) : [],
      isWanted('iban') ? findIbans(plain) : [],
      isWanted('national_id') ? findNationalIds(plain) : [],
      isWanted('ip') ? findIpAddresses(plain, original, privateAddresses) : [],
    ].flat();
    return isWanted('phone') ? [...found, ...findPhones(plain, regions, found)] : found;
  };
  return (original) => {
    const signals = signalsOf(original);
    if (signals === 0) return [];
    const text = toPlain(original);
    const windows = signals & IPV6 ? [{ start: 0, end: text.length }] : signals & NUMBER ? windowsOf(text) : [];
    // Spread arguments have a limit, a row has none but its size.
    const found = [
      signals & AT_SIGN && isWanted('email') ? findEmails(text) : [],
      signals & AT_SIGN && isWanted('secret') ? findUrlPasswords(text) : [],
      signals & LONG_TOKEN && isWanted('secret') ? findSecrets(text) : [],
      signals & LONG_TOKEN && isWanted('national_id') ? findCodiciFiscali(text) : [],
      ...windows.map(({ start, end }) => shifted(inWindow(text.slice(start, end), original.slice(start, end)), start)),
    ];
    return withoutOverlaps(found.flat());
  };
}

/** Around each run of digits, from a space on; those that touch are one. */
function windowsOf(text: string): Run[] {
  const windows: Run[] = [];
  for (let run = findNumberRun(text, 0); run !== null; run = findNumberRun(text, run.end)) {
    const start = text.lastIndexOf(' ', Math.max(0, run.start - CHARS_BEFORE)) + 1;
    const last = windows.at(-1);
    if (last !== undefined && start <= last.end) last.end = run.end + CHARS_BEHIND;
    else windows.push({ start, end: run.end + CHARS_BEHIND });
  }
  return windows;
}

function shifted(findings: Finding[], by: number): Finding[] {
  if (by === 0) return findings;
  return findings.map((finding) => ({ ...finding, start: finding.start + by, end: finding.end + by }));
}
