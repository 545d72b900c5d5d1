// Looks for personal data and secrets in all texts of a row. A pure function of row, rules and key; doing it twice changes nothing more.
import { PII_TYPES, type PrivacyRules } from '../../contracts/privacy-rules.ts';
import type { Content } from '../mapping.ts';
import { actionOf, createActions, type Inspection } from './actions.ts';
import { createDetector } from './detector.ts';
import type { Detector, Finding } from './findings.ts';
import { signalsOf, signalsOfJson } from './signals.ts';
import { replaceTexts } from './texts.ts';

export interface Privacy {
  /** False = nothing is looked for. */
  isOn: boolean;
  /** False = `inspect` certainly finds nothing. Takes the content as JSON text. */
  mayHold(json: string): boolean;
  inspect(content: Content): Inspection;
}

/** `key` is what pseudonyms are made from. @throws AnnealError `bad_request` for rules that cannot be kept. */
export function createPrivacy(rules: PrivacyRules, key: string | null): Privacy {
  const openRow = createActions(rules, key);
  const detect = createDetector(rules, (type) => actionOf(rules, type) !== 'off');
  const isOn = PII_TYPES.some((type) => actionOf(rules, type) !== 'off');
  return {
    isOn,
    mayHold: (json) => isOn && signalsOfJson(json) !== 0,
    inspect(content) {
      const row = openRow();
      if (!isOn) return row.finish(content);
      const replaced = replaceTexts(content, (text, path, name) =>
        row.take(text, path, (written) => detectNamed(detect, written, name)),
      );
      return row.finish(replaced);
    },
  };
}

/** The name of a field says what its value is, as words before it do in a sentence. */
function detectNamed(detect: Detector, text: string, name: string): Finding[] {
  if (name === '' || signalsOf(text) === 0) return detect(text);
  const before = `${name.replaceAll(/([a-z])([A-Z])/g, '$1 $2').replaceAll('_', ' ')}: `;
  return detect(before + text)
    .filter(({ start }) => start >= before.length)
    .map((finding) => ({ ...finding, start: finding.start - before.length, end: finding.end - before.length }));
}
