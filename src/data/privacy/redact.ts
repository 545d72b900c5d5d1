// Masks every type of personal data in a piece of a row that people are shown, whatever the spec says of the row itself.
import { PrivacySchema } from '../../contracts/privacy-rules.ts';
import { createDetector } from './detector.ts';
import { replaceFindings } from './findings.ts';
import { signalsOfJson } from './signals.ts';

const detect = createDetector(PrivacySchema.parse({ privateAddresses: true }), () => true);

const PRINTABLE_ESCAPE = /\\u00([2-7][\da-f])/gi;
/** Two characters that stand for one that ends a word. */
const OTHER_ESCAPE = /\\[nrtbf"\\]/g;

/**
 * The text may be JSON, cut anywhere. Hand over more than will be shown and cut afterwards: what is cut in the middle is not
 * recognised.
 */
export function redactPreview(text: string): string {
  if (signalsOfJson(text) === 0) return text;
  const readable = text.replace(PRINTABLE_ESCAPE, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  const findings = detect(readable.replace(OTHER_ESCAPE, '  '));
  return findings.length === 0 ? text : replaceFindings(readable, findings, ({ type }) => `<${type.toUpperCase()}>`);
}
