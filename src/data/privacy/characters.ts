// Classes of characters that personal data is made of, and the plain forms of their wide and foreign variants.

export const DIGIT = 1;
/** What stands between the digits of a number. */
export const SEPARATOR = 2;
/** What keys and tokens are written in. */
export const TOKEN = 4;
export const HEX = 8;

/** Characters that count as another one; one for one, so that places stay. */
const VARIANTS: readonly (readonly [first: number, last: number, plain: string])[] = [
  [0xff10, 0xff19, '0123456789'],
  [0x0660, 0x0669, '0123456789'],
  [0x06f0, 0x06f9, '0123456789'],
  [0x0966, 0x096f, '0123456789'],
  [0x00a0, 0x00a0, ' '],
  [0x2000, 0x200a, '           '],
  [0x202f, 0x202f, ' '],
  [0x3000, 0x3000, ' '],
  [0x2010, 0x2015, '------'],
  [0x2212, 0x2212, '-'],
  [0xff0d, 0xff0d, '-'],
  [0xff0b, 0xff0b, '+'],
  [0xff08, 0xff09, '()'],
  [0xff0e, 0xff0e, '.'],
  [0xff0f, 0xff0f, '/'],
  [0xff20, 0xff20, '@'],
];

const PLAIN = new Map<string, string>();
for (const [first, last, plain] of VARIANTS)
  for (let code = first; code <= last; code++) PLAIN.set(String.fromCharCode(code), plain.charAt(code - first));

const VARIANT = new RegExp(`[${[...PLAIN.keys()].join('')}]`, 'g');

/** JSON escapes of what a detector looks at: ASCII, and the variants. */
export const TELLING_ESCAPE =
  /\\u(?:00[0-7]|00a0|20(?:0[0-9a]|1[0-5]|2f)|2212|3000|ff(?:0[89bdef]|1[0-9]|20)|06[6f]|096[6-9a-f])/i;

/** The text with the variants in their plain form; as long as before. */
export function toPlain(text: string): string {
  return text.replace(VARIANT, (variant) => PLAIN.get(variant) ?? variant);
}

/** Searched with its `lastIndex`. */
export const ANY_DIGIT = new RegExp(
  `[\\d${[...PLAIN]
    .filter(([, plain]) => /\d/.test(plain))
    .map(([variant]) => variant)
    .join('')}]`,
  'g',
);

/** Classes by UTF-16 code unit. */
export const CLASSES = new Uint8Array(0x10000);
classify('0123456789', DIGIT | TOKEN | HEX);
classify('abcdefABCDEF', HEX);
classify('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-+/=', TOKEN);
// The backslash stands before a slash in the JSON that some libraries write.
classify(' .()/-+\\', SEPARATOR);
for (const [variant, plain] of PLAIN) CLASSES[variant.charCodeAt(0)] = CLASSES[plain.charCodeAt(0)] as number;

function classify(characters: string, added: number): void {
  for (const character of characters) {
    const code = character.charCodeAt(0);
    CLASSES[code] = (CLASSES[code] as number) | added;
  }
}
