// Does with each finding what the spec says of its type: counts it, replaces it, or gives the reason why the row must go.
import { createHmac } from 'node:crypto';
import { AnnealError } from '../../contracts/failure.ts';
import { PII_TYPES, type PiiAction, type PiiType, type PrivacyRules } from '../../contracts/privacy-rules.ts';
import type { DropCode } from '../../contracts/rows.ts';
import type { Content } from '../mapping.ts';
import { type Detector, type Finding, replaceFindings } from './findings.ts';

export interface Inspection {
  /** The same object when nothing was replaced. */
  content: Content;
  /** How often each type was found, whatever is done about it. */
  found: Partial<Record<PiiType, number>>;
  /** Why the row must go; never with a value. `pii_blocked` also fails the stage. */
  fault: { code: DropCode; path: string; message: string } | null;
}

/** What is found in one row, field by field. */
export interface RowActions {
  /** The field's text as it stands afterwards: `find` finds nothing more in it that is to be replaced. */
  take(text: string, path: string, find: Detector): string;
  finish(content: Content): Inspection;
}

/** Hex digits of a pseudonym: of 4,000 values two are likely to share one, which joins two persons and betrays none. */
const PSEUDONYM_DIGITS = 6;

/** What was part of a longer word may be a value of its own once the word's end is replaced; rarely more than once. */
const ROUNDS_MAX = 8;

/** A shorter key could be guessed from a pseudonym whose value is known. */
const KEY_CHARS_MIN = 16;

export function actionOf({ action, types }: PrivacyRules, type: PiiType): PiiAction {
  return types[type] ?? action;
}

/** @throws AnnealError `bad_request` when pseudonyms are asked for and there is no key, or one that is too short. */
export function createActions(rules: PrivacyRules, key: string | null): () => RowActions {
  if (key === null || key.length < KEY_CHARS_MIN) refusePseudonyms(rules);
  const isAllowed = createAllowList(rules.allow);
  const replacementOf = ({ type, value }: Finding): string => {
    const name = type.toUpperCase();
    if (actionOf(rules, type) === 'mask') return `<${name}>`;
    return `<${name}_${createHmac('sha256', key ?? '')
      .update(`${type}\n${value}`)
      .digest('hex')
      .slice(0, PSEUDONYM_DIGITS)}>`;
  };
  const isReplaced = ({ type }: Finding): boolean => ['mask', 'pseudonymise'].includes(actionOf(rules, type));
  return () => {
    const found: Inspection['found'] = {};
    let fault: Inspection['fault'] = null;
    const note = ({ type }: Finding, path: string): void => {
      found[type] = (found[type] ?? 0) + 1;
      const action = actionOf(rules, type);
      if (action === 'block' && fault?.code !== 'pii_blocked') fault = faultOf('pii_blocked', type, path);
      if (action === 'drop') fault ??= faultOf('pii_dropped', type, path);
    };
    return {
      take(text, path, find) {
        let current = text;
        for (let round = 0; round < ROUNDS_MAX; round++) {
          const written = current;
          const findings = find(written).filter((one) => !isAllowed(written.slice(one.start, one.end), one));
          const counted = round === 0 ? findings : findings.filter(isReplaced);
          for (const finding of counted) note(finding, path);
          const replaced = counted.filter(isReplaced);
          if (replaced.length === 0) break;
          current = replaceFindings(written, replaced, replacementOf);
        }
        return current;
      },
      finish: (content) => ({ content, found, fault }),
    };
  };
}

function refusePseudonyms(rules: PrivacyRules): void {
  const type = PII_TYPES.find((name) => actionOf(rules, name) === 'pseudonymise');
  if (type === undefined) return;
  throw new AnnealError(
    'bad_request',
    `\`data.privacy\` asks for pseudonyms of the type ${type}, and the data worker has no key of ${KEY_CHARS_MIN} characters or more to make them from; set ANNEAL_PSEUDONYM_KEY there, or use \`mask\`.`,
  );
}

/** Exact values, in the form that was written or the one form of the type; for e-mail also the domain or one above it. */
function createAllowList(allow: readonly string[]): (written: string, finding: Finding) => boolean {
  const allowed = new Set(allow.map((value) => value.toLowerCase().replace(/^@/, '')));
  if (allowed.size === 0) return () => false;
  return (written, { type, value }) => {
    if (allowed.has(written.toLowerCase()) || allowed.has(value.toLowerCase())) return true;
    if (type !== 'email') return false;
    const labels = value.slice(value.lastIndexOf('@') + 1).split('.');
    return labels.some((_, i) => allowed.has(labels.slice(i).join('.')));
  };
}

function faultOf(code: 'pii_dropped' | 'pii_blocked', type: PiiType, path: string): Inspection['fault'] {
  const action = code === 'pii_blocked' ? 'block' : 'drop';
  const message = `${path} holds personal data of the type ${type}, and \`data.privacy\` says ${action}; take it out, or choose \`mask\` or \`pseudonymise\``;
  return { code, path, message };
}
