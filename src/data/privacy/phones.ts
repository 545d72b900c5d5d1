// Finds phone numbers that libphonenumber takes for valid. A number without country code must also be written as its country
// writes it, or stand behind a word such as "call": else every order number would be one.
import {
  type CountryCode,
  Metadata,
  type NumberingPlan,
  type PhoneNumber,
  parsePhoneNumberFromString,
} from 'libphonenumber-js/max';
import type { Finding } from './findings.ts';
import { NUMBER_DIGITS_MIN } from './signals.ts';

/** E.164, with `00` before it. */
const DIGITS_MAX = 17;

/** What must not stand before a number; behind a colon or `=` only what says that it is a phone number. */
const START =
  '(?<![\\w.,:#=%$€£@/+-])(?<![A-Za-z]\\()(?:\\+ ?|\\()?|(?<=[:=])\\+|(?<=\\b(?:tel|phone|mobile|fax|call)[:=])';
const CANDIDATE = new RegExp(`(?:${START})\\(?\\d(?:[ .()/-]{0,3}\\d){6,24}(?![\\w%€£]|[.,:-]\\d)`, 'gi');
const INTERNATIONAL = /^(?:\(?\+|00[1-9]|011 ?[1-9])/;

/** Words before a number that say what it is, in the languages of the regions that are looked into by default, and a few more. */
const NAMES = [
  'tel|phone|telephone|call|called|calling|mobile|cell|cellphone|fax|whatsapp|sms|text|dial|ring|voicemail|hotline|reach',
  'fon|telefon\\w*|mobil|handy|handynummer|rufnummer|ruf\\w*|anruf\\w*|erreich\\w+',
  'tél|téléphone|portable|appele[rz]|appel|joindre',
  'tel[eé]fono|tfno|m[oó]vil|celular|ll[aá]m\\p{L}+',
  'cellulare|chiam\\w+|ligue|fone|tlf',
  '(?:my|our|his|her|their) number|(?:meine|unsere|seine|ihre) nummer|(?:mon|notre|son|votre) numéro|(?:mi|su|nuestro) número|(?:il )?(?:mio|suo|nostro) numero|meu número',
].join('|');
const NAMES_WITHOUT_SPACES = '电话|電話|手机|手機|联系方式|फ़ोन|मोबाइल|هاتف|телефон|тел\\.|携帯|携帯電話|전화|연락처';
const CONTEXT = new RegExp(`(?:\\b(?:${NAMES})\\b[^\\d\\n]{0,24}|(?:${NAMES_WITHOUT_SPACES})[^\\d\\n]{0,12})$`, 'iu');
const CONTEXT_CHARS = 40;

const DATE = /^\d{4}([-/.])\d{1,2}\1\d{1,2}(?: |$)|^\d{1,2}([-/.])\d{1,2}\2\d{4}(?: |$)/;

/** Pieces that are tried: a candidate may begin or end with numbers that belong to the sentence. */
const CUTS_MAX = 3;

/** A shorter one without leading 0 is any number. */
const NAMED_DIGITS_MIN = 9;

/** How a region writes its numbers. */
export interface PhoneRegion {
  country: CountryCode;
  /** `0` where numbers are written with it. */
  prefix: string;
  /** Of a number as it is written, prefix included. */
  lengths: readonly number[];
  /** North Americans may write a 1 before the number. */
  mayHaveOne: boolean;
}

export function phoneRegionOf(country: string): PhoneRegion {
  const metadata = new Metadata();
  metadata.selectNumberingPlan(country as CountryCode);
  // Its types leave the prefix out.
  const plan = metadata.numberingPlan as (NumberingPlan & { nationalPrefix(): string | undefined }) | undefined;
  const prefix = plan?.nationalPrefix() === '0' ? '0' : '';
  const mayHaveOne = plan?.nationalPrefix() === '1';
  return {
    country: country as CountryCode,
    prefix,
    lengths: plan?.possibleLengths().map((length) => length + prefix.length) ?? [],
    mayHaveOne,
  };
}

/** @param taken what was found before: a number that lies in one of these is none, and is not tried, which is dear. */
export function findPhones(text: string, regions: readonly PhoneRegion[], taken: readonly Finding[]): Finding[] {
  const findings: Finding[] = [];
  CANDIDATE.lastIndex = 0;
  for (let match = CANDIDATE.exec(text); match !== null; match = CANDIDATE.exec(text)) {
    const { index } = match;
    const end = index + match[0].length;
    if (taken.some((finding) => finding.start <= index && end <= finding.end)) continue;
    const found = firstPhone(text, match[0], match.index, regions);
    if (found === null) continue;
    findings.push(found);
    // What was cut off may be the next number.
    CANDIDATE.lastIndex = found.end;
  }
  return findings;
}

function firstPhone(text: string, candidate: string, index: number, regions: readonly PhoneRegion[]): Finding | null {
  const before = text.slice(Math.max(0, index - CONTEXT_CHARS), index);
  const pieces = piecesOf(candidate);
  const isNamed = (at: number): boolean => CONTEXT.test(before + candidate.slice(0, at));
  const find = (read: (piece: Piece) => PhoneNumber | null): Finding | null => {
    for (const piece of pieces) {
      const phone = read(piece);
      const start = index + piece.at;
      if (phone !== null) return { type: 'phone', start, end: start + piece.written.length, value: phone.number };
    }
    return null;
  };
  return (
    find((piece) => readInternational(piece) ?? readGrouped(piece, regions)) ??
    find((piece) => (isNamed(piece.at) ? readNamed(piece, regions) : null))
  );
}

interface Piece {
  at: number;
  /** Whether it is less than the candidate. */
  isCut: boolean;
  written: string;
  digits: string;
}

/** The whole, then without its last groups, then without its first ones. */
function piecesOf(candidate: string): Piece[] {
  const pieces = [{ at: 0, written: candidate }];
  for (let written = candidate, i = 0; i < CUTS_MAX && written.includes(' '); i++) {
    written = written.slice(0, written.lastIndexOf(' ')).replace(/\D+$/, '');
    pieces.push({ at: 0, written });
  }
  for (let at = 0, i = 0; i < CUTS_MAX && candidate.indexOf(' ', at) !== -1; i++) {
    at = candidate.indexOf(' ', at) + 1;
    pieces.push({ at, written: candidate.slice(at) });
  }
  return pieces
    .map((piece) => ({
      ...piece,
      isCut: piece.written !== candidate,
      digits: piece.written.replaceAll(/\D/g, ''),
    }))
    .filter(({ written, digits }) => {
      const isNumber = /^[+(\d]/.test(written) && !DATE.test(written) && isOnePiece(written);
      return isNumber && digits.length >= NUMBER_DIGITS_MIN && digits.length <= DIGITS_MAX;
    });
}

/** Not the pages and the year of a quotation: `532-563 (2007`, `573-583. 2020`. */
function isOnePiece(written: string): boolean {
  return written.split('(').length === written.split(')').length && !written.includes('. ');
}

function readInternational({ written }: Piece): PhoneNumber | null {
  if (!INTERNATIONAL.test(written)) return null;
  const phone = parse(written.replace(/^(?:00|011 ?)/, '+'), undefined);
  return phone?.isValid() ? phone : null;
}

/** Grouped just as the region groups it, and as no amount or other number is grouped. */
function readGrouped(piece: Piece, regions: readonly PhoneRegion[]): PhoneNumber | null {
  if (!isTellingGroups(piece)) return null;
  for (const { country, prefix, lengths, mayHaveOne } of regions) {
    const hasOne = mayHaveOne && /^1[ .-]/.test(piece.written);
    const written = piece.written.slice(hasOne ? 2 : 0);
    const digits = piece.digits.slice(hasOne ? 1 : 0);
    if (!digits.startsWith(prefix) || !lengths.includes(digits.length)) continue;
    const phone = parse(written, country);
    if (phone?.isValid() && isGroupedAs(phone.formatNational(), written)) return phone;
  }
  return null;
}

/** Germans put a hyphen before the extension. */
function isGroupedAs(national: string, written: string): boolean {
  const groups = groupsOf(national);
  return groups === groupsOf(written) || (/^\(?0/.test(written) && groups === groupsOf(written.replaceAll('-', '')));
}

const AMOUNT = /^\d{1,3}(?: \d{3})+$/;

/** Two groups at least, three without a leading 0 or bracket. */
function isTellingGroups({ written, isCut }: Piece): boolean {
  const count = groupsOf(written).split(' ').length;
  const isLed = /^[(0]/.test(written);
  if (count < 2 || (count === 2 && !isLed)) return false;
  // A part of more groups is no number of its own.
  if (isCut && /^[\d ]+$/.test(written)) return false;
  return isLed || !AMOUNT.test(written);
}

function readNamed({ written, digits }: Piece, regions: readonly PhoneRegion[]): PhoneNumber | null {
  if (digits.length < NAMED_DIGITS_MIN && !/^[(0]/.test(written)) return null;
  for (const { country } of regions) {
    const phone = parse(written, country);
    if (phone?.isValid()) return phone;
  }
  return null;
}

function parse(written: string, defaultCountry: CountryCode | undefined): PhoneNumber | undefined {
  return parsePhoneNumberFromString(written, { defaultCountry, extract: false });
}

function groupsOf(written: string): string {
  return written.replace(/^\D+|\D+$/g, '').replaceAll(/\D+/g, ' ');
}
