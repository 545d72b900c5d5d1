// The text by which a row is grouped that no column groups: case and white space do not make another question.
import { hash } from 'node:crypto';
import { PlainWords } from '../kernels/plain-words.ts';

const GROUP_HEX_DIGITS = 16;

const BACKSLASH = 0x5c;
const BLANK = 0x20;
const ASCII_END = 0x80;

/** What a byte of ASCII becomes: itself in lower case, or a blank. */
const PLAIN = Uint8Array.from({ length: ASCII_END }, (_, byte) => {
  const character = String.fromCharCode(byte);
  return /\s/.test(character) ? BLANK : character.toLowerCase().charCodeAt(0);
});

/** The same of the byte behind a backslash in JSON text; 0 = of none that stands there in the texts of a chat that is as it should be. */
const PLAIN_ESCAPED = new Uint8Array(256);
for (const character of '"\\bfnrt')
  PLAIN_ESCAPED[character.charCodeAt(0)] = PLAIN[(JSON.parse(`"\\${character}"`) as string).charCodeAt(0)] as number;

/** White space that is not a single blank, which most texts have none of. */
const ODD_SPACE = /[^\S ]| {2}/;

/** 16 hex digits: the same for a group's bytes as for its text. */
export function digestGroup(group: string | Uint8Array): string {
  return hash('sha256', group, 'hex').slice(0, GROUP_HEX_DIGITS);
}

export function plainText(text: string): string {
  const plain = text.trim().toLowerCase();
  return ODD_SPACE.test(plain) ? plain.replaceAll(/\s+/g, ' ') : plain;
}

/** `plainText` of JSON text between its quotes, without decoding it; of one text at a time. */
export class PlainBytes {
  #target: Buffer = Buffer.alloc(0);
  readonly #words = new PlainWords();

  /** @returns valid until the next call; null for what is not all ASCII. */
  of(source: Buffer, from: number, to: number): Buffer | null {
    return this.#words.of(source, from, to) ?? this.#byBytes(source, from, to);
  }

  #byBytes(source: Buffer, from: number, to: number): Buffer | null {
    if (this.#target.length < to - from) this.#target = Buffer.allocUnsafeSlow(2 * (to - from));
    const target = this.#target;
    let length = 0;
    let isBehindSpace = false;
    for (let at = from; at < to; at++) {
      const byte = source[at] as number;
      if (byte >= ASCII_END) return null;
      const plain = byte === BACKSLASH ? PLAIN_ESCAPED[source[++at] as number] : PLAIN[byte];
      if (plain === BLANK) {
        isBehindSpace = length > 0;
        continue;
      }
      if (isBehindSpace) target[length++] = BLANK;
      isBehindSpace = false;
      target[length++] = plain as number;
    }
    return target.subarray(0, length);
  }
}
