// Drops rows by the length and the language of their texts, where the spec asks for it.
import type { FilterRules } from '../contracts/privacy-rules.ts';
import type { DropCode } from '../contracts/rows.ts';
import type { LanguageOf } from './language.ts';
import type { Content } from './mapping.ts';
import { ownTexts } from './row-texts.ts';

interface Fault {
  code: DropCode;
  path: string;
  message: string;
}

export type Filter = (content: Content) => Fault | null;

export function isFiltered({ minChars, maxChars, languages }: FilterRules): boolean {
  return minChars !== null || maxChars !== null || languages.length > 0;
}

/** `languageOf` is needed where the rules name languages. */
export function createFilters(rules: FilterRules, languageOf: LanguageOf | null): Filter {
  const { languages } = rules;
  return (content) => {
    const texts = ownTexts(content).map(({ text }) => text);
    return judgeLength(texts, rules) ?? (languages.length === 0 ? null : judgeLanguage(texts, languages, languageOf));
  };
}

function judgeLength(texts: string[], { minChars, maxChars }: FilterRules): Fault | null {
  const chars = texts.reduce((total, text) => total + text.length, 0);
  if (minChars !== null && chars < minChars)
    return fault(
      'too_short',
      `the row's texts have ${chars} characters, fewer than \`data.filters.minChars\` ${minChars}; leave it out, or lower the limit`,
    );
  if (maxChars !== null && chars > maxChars)
    return fault(
      'too_long_text',
      `the row's texts have ${chars} characters, more than \`data.filters.maxChars\` ${maxChars}; cut it, or raise the limit`,
    );
  return null;
}

/** The longest text tells best. */
function judgeLanguage(texts: string[], languages: readonly string[], languageOf: LanguageOf | null): Fault | null {
  const longest = texts.reduce((a, b) => (b.length > a.length ? b : a), '');
  const found = languageOf?.(longest) ?? null;
  if (found === null || (languages as readonly string[]).includes(found)) return null;
  return fault(
    'lang_excluded',
    `the row's language is ${found}, and \`data.filters.languages\` keeps ${languages.join(', ')}; leave it out, or add ${found}`,
  );
}

function fault(code: DropCode, message: string): Fault {
  return { code, path: '', message };
}
