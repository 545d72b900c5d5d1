// Tells the language of a text. The dictionary is large, so it is loaded only where somebody asks.

/** ISO 639-1, or null when the text is too short or too mixed to tell. */
export type LanguageOf = (text: string) => string | null;

/** More does not make it surer, and costs time. */
const CHARS_LOOKED_AT = 400;
/** Fewer letters than this are often taken for another language. */
const LETTERS_MIN = 24;

export async function loadLanguages(): Promise<LanguageOf> {
  const { eld } = await import('eld/extrasmall');
  return (text) => {
    const looked = text
      .slice(0, CHARS_LOOKED_AT * 4)
      .replaceAll(NOT_PROSE, ' ')
      .slice(0, CHARS_LOOKED_AT);
    if (weightOf(looked) < LETTERS_MIN) return null;
    const found = eld.detect(looked);
    return found.language !== '' && found.isReliable() ? found.language : null;
  };
}

/** Code, addresses and placeholders have no language. */
const NOT_PROSE = /```[\s\S]*?(?:```|$)|`[^`\n]*`|https?:\/\/\S+|<[A-Z_]+(?:_[\da-f]{6})?>/g;

/** A character of a script without letters says as much as four letters. */
function weightOf(text: string): number {
  const dense = text.match(/[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/gu)?.length ?? 0;
  return (text.match(/\p{L}/gu)?.length ?? 0) + 3 * dense;
}
