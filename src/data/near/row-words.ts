// The words of a cleaned row's own texts, hashed as `createWordHasher` does, from the row's line as it lies in its file. Chats and texts
// of the form that cleaning writes most are read without being decoded; whatever else there is, is parsed.

import { LOWER_CASE, WordLine } from '../kernels/word-line.ts';
import type { Content } from '../mapping.ts';
import { ownTexts } from '../row-texts.ts';
import { ALONE, createWordHasher, hashUnit, hashUnits, IN_WORD, unitKinds } from './words.ts';

/** What stands before the content. */
const CONTENT_AT = `{"id":"${'0'.repeat(32)}",`.length;
const TEXT = Buffer.from('"text":"');
const MESSAGES = Buffer.from('"messages":[{"role":"');
const CONTENT = Buffer.from('","content":"');
const NEXT_MESSAGE = Buffer.from(',{"role":"');

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const CLOSE_BRACE = 0x7d;
const SMALL_U = 0x75;

/** First letters of roles: system and developer, whose texts are shared, and user. */
const SMALL_S = 0x73;
const SMALL_D = 0x64;

/** What a byte is: `IN_WORD`, 0 between words, or one that ends the text, stands before another one, or begins a longer character. */
const END = 3;
const ESCAPE = 4;
const WIDE = 5;
const KINDS = new Uint8Array(256).fill(WIDE, 0x80);
for (let byte = 0; byte < 0x80; byte++) if (/[a-z0-9]/i.test(String.fromCharCode(byte))) KINDS[byte] = IN_WORD;
KINDS[QUOTE] = END;
KINDS[BACKSLASH] = ESCAPE;

/** Of a UTF-16 code unit its lower case; 0 where that depends on its neighbours or is longer. Made when first needed. */
let lowerUnits: Uint16Array | null = null;

function makeLowerUnits(): Uint16Array {
  const made = new Uint16Array(0x10000);
  for (let unit = 0; unit < made.length; unit++) {
    const lower = String.fromCharCode(unit).toLowerCase();
    made[unit] = lower.length === 1 ? lower.charCodeAt(0) : 0;
  }
  made[CAPITAL_SIGMA] = 0;
  return made;
}

/** Its lower case is another one at the end of a word. */
const CAPITAL_SIGMA = 0x3a3;
/** From here on characters have no case: emoji, rare ideographs. */
const CASELESS_FROM = 0x1f000;

/** Text that is a question: a user's turn, or a text without turns. */
type TakeText = (words: Int32Array, isPrompt: boolean) => void;

export class RowWords {
  /** Rows that had to be parsed. */
  parsedRows = 0;
  readonly #line = new WordLine();
  /** Code units of a word that is not all ASCII. */
  #units = new Uint16Array(1024);
  /** Where the texts end among the line's words, and which of them are questions. */
  readonly #ends: number[] = [];
  readonly #prompts: boolean[] = [];
  readonly #kinds = unitKinds();
  readonly #lower: Uint16Array;
  readonly #hashWords = createWordHasher();

  constructor() {
    lowerUnits ??= makeLowerUnits();
    this.#lower = lowerUnits;
  }

  /** Calls back with the words of each text of the line [from, to), in their order; they are valid until the next line. */
  eachText(source: Buffer, from: number, to: number, take: TakeText): void {
    const line = this.#line;
    line.read(source, from, to);
    this.#ends.length = 0;
    this.#prompts.length = 0;
    if (!this.#scan(line.bytes, CONTENT_AT)) {
      this.parsedRows++;
      this.#parse(source.toString('utf8', from, to), take);
      return;
    }
    let start = 0;
    for (let i = 0; i < this.#ends.length; i++) {
      const end = this.#ends[i] as number;
      take(line.words(start, end), this.#prompts[i] as boolean);
      start = end;
    }
  }

  #parse(json: string, take: TakeText): void {
    for (const { text, isPrompt } of ownTexts(JSON.parse(json) as Content)) take(this.#hashWords(text), isPrompt);
  }

  #endText(isPrompt: boolean): void {
    this.#ends.push(this.#line.count);
    this.#prompts.push(isPrompt);
  }

  /** False when the row has another form, and must be parsed. */
  #scan(source: Buffer, at: number): boolean {
    if (stands(TEXT, source, at)) {
      if (this.#scanText(source, at + TEXT.length) === -1) return false;
      this.#endText(true);
      return true;
    }
    if (!stands(MESSAGES, source, at)) return false;
    let end = this.#scanMessage(source, at + MESSAGES.length);
    while (end !== -1 && stands(NEXT_MESSAGE, source, end)) end = this.#scanMessage(source, end + NEXT_MESSAGE.length);
    return end !== -1 && source[end] === CLOSE_BRACKET;
  }

  /** From the role on. Gives where it ends, or -1 where it has more than a role and a text. */
  #scanMessage(source: Buffer, at: number): number {
    let content = at;
    while (source[content] !== QUOTE) content++;
    if (!stands(CONTENT, source, content)) return -1;
    const before = this.#line.count;
    const end = this.#scanText(source, content + CONTENT.length);
    if (end === -1 || source[end + 1] !== CLOSE_BRACE) return -1;
    const letter = source[at];
    if (letter === SMALL_S || letter === SMALL_D) this.#line.count = before;
    else this.#endText(letter === SMALL_U);
    return end + 2;
  }

  /** Adds the words of a text. Gives where its closing quote stands, or -1 where a string has to be made of it. */
  #scanText(source: Buffer, start: number): number {
    for (let at = this.#line.scan(start); ; at = this.#line.scan(at)) {
      const kind = KINDS[source[at] as number];
      if (kind === END) return at;
      if (kind === ESCAPE) {
        // What is written by its number may be half a character.
        if (source[at + 1] === SMALL_U) return -1;
        at += 2;
        continue;
      }
      at = this.#scanWide(source, at);
      if (at === -1) return -1;
    }
  }

  /** Adds the words up to the next ASCII character that is in none. Gives where that stands, or -1. */
  #scanWide(source: Buffer, from: number): number {
    let length = 0;
    let at = from;
    for (;;) {
      const byte = source[at] as number;
      if (byte < 0x80) {
        if (KINDS[byte] !== IN_WORD) break;
        this.#addUnit(length++, byte | LOWER_CASE);
        at++;
        continue;
      }
      let kind = 0;
      let unit = 0;
      if (byte < 0xf0) {
        unit = this.#lower[byte < 0xe0 ? twoBytes(source, at) : threeBytes(source, at)] as number;
        if (unit === 0) return -1;
        at += byte < 0xe0 ? 2 : 3;
        kind = this.#kinds[unit] as number;
        if (kind === IN_WORD) {
          this.#addUnit(length++, unit);
          continue;
        }
      }
      if (length > 0) this.#line.add(hashUnits(this.#units, 0, length));
      length = 0;
      if (kind === ALONE) this.#line.add(hashUnit(unit));
      if (byte < 0xf0) continue;
      const character = fourBytes(source, at);
      if (character < CASELESS_FROM) return -1;
      this.#line.add(hashUnit(0xd7c0 + (character >> 10)));
      this.#line.add(hashUnit(0xdc00 + (character & 0x3ff)));
      at += 4;
    }
    if (length > 0) this.#line.add(hashUnits(this.#units, 0, length));
    return at;
  }

  #addUnit(at: number, unit: number): void {
    if (at === this.#units.length) {
      const larger = new Uint16Array(2 * at);
      larger.set(this.#units);
      this.#units = larger;
    }
    this.#units[at] = unit;
  }
}

function twoSixes(source: Buffer, at: number): number {
  return (((source[at] as number) & 0x3f) << 6) | ((source[at + 1] as number) & 0x3f);
}

function twoBytes(source: Buffer, at: number): number {
  return (((source[at] as number) & 0x1f) << 6) | ((source[at + 1] as number) & 0x3f);
}

function threeBytes(source: Buffer, at: number): number {
  return (((source[at] as number) & 0x0f) << 12) | twoSixes(source, at + 1);
}

function fourBytes(source: Buffer, at: number): number {
  return (
    (((source[at] as number) & 0x07) << 18) | (twoSixes(source, at + 1) << 6) | ((source[at + 3] as number) & 0x3f)
  );
}

function stands(text: Buffer, source: Buffer, at: number): boolean {
  for (let i = 0; i < text.length; i++) if (source[at + i] !== text[i]) return false;
  return true;
}
