// The words of a cleaned row's own texts, hashed as `createWordHasher` does, from the row's line as it lies in its file. Chats and texts
// of the form that cleaning writes most are read without being decoded; whatever else there is, is parsed.
import type { Content } from '../mapping.ts';
import { ownTexts } from '../row-texts.ts';
import { ALONE, createWordHasher, FNV_OFFSET, FNV_PRIME, IN_WORD, unitKinds } from './words.ts';

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

/** Of an ASCII byte its lower case in a word, 0 between words, `HALT` where more has to be known. */
const HALT = 0xff;
const ASCII = new Uint8Array(256).fill(HALT, 0x80);
for (let byte = 0; byte < 0x80; byte++) {
  const character = String.fromCharCode(byte);
  if (/[a-z0-9]/i.test(character)) ASCII[byte] = character.toLowerCase().charCodeAt(0);
}
ASCII[QUOTE] = HALT;
ASCII[BACKSLASH] = HALT;

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
  /** Of the row's texts, one behind the other. */
  #words = new Int32Array(4096);
  #count = 0;
  /** Where the texts end in it, and which of them are questions. */
  #ends: number[] = [];
  #prompts: boolean[] = [];
  readonly #kinds = unitKinds();
  readonly #lower: Uint16Array;
  readonly #hashWords = createWordHasher();

  constructor() {
    lowerUnits ??= makeLowerUnits();
    this.#lower = lowerUnits;
  }

  /** Calls back with the words of each text of the line [from, to), in their order; they are valid until the next line. */
  eachText(source: Buffer, from: number, to: number, take: TakeText): void {
    this.#clear();
    // There are no more words than bytes.
    if (this.#words.length < to - from) this.#words = new Int32Array(2 * (to - from));
    if (!this.#scan(source, from + CONTENT_AT)) {
      this.#clear();
      this.parsedRows++;
      this.#parse(source.toString('utf8', from, to));
    }
    let start = 0;
    for (let i = 0; i < this.#ends.length; i++) {
      const end = this.#ends[i] as number;
      take(this.#words.subarray(start, end), this.#prompts[i] as boolean);
      start = end;
    }
  }

  #clear(): void {
    this.#count = 0;
    this.#ends = [];
    this.#prompts = [];
  }

  #endText(isPrompt: boolean): void {
    this.#ends.push(this.#count);
    this.#prompts.push(isPrompt);
  }

  #parse(json: string): void {
    const content = JSON.parse(json) as Content;
    for (const { text, isPrompt } of ownTexts(content)) this.#addText(text, isPrompt);
  }

  #addText(text: string, isPrompt: boolean): void {
    const words = this.#hashWords(text);
    if (this.#words.length < this.#count + words.length) {
      const larger = new Int32Array(2 * (this.#count + words.length));
      larger.set(this.#words.subarray(0, this.#count));
      this.#words = larger;
    }
    this.#words.set(words, this.#count);
    this.#count += words.length;
    this.#endText(isPrompt);
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
    const content = source.indexOf(QUOTE, at);
    if (!stands(CONTENT, source, content)) return -1;
    const before = this.#count;
    const end = this.#scanText(source, content + CONTENT.length);
    if (end === -1 || source[end + 1] !== CLOSE_BRACE) return -1;
    const letter = source[at];
    if (letter === SMALL_S || letter === SMALL_D) this.#count = before;
    else this.#endText(letter === SMALL_U);
    return end + 2;
  }

  /** Adds the words of a text. Gives where its closing quote stands, or -1 where a string has to be made of it. */
  #scanText(source: Buffer, start: number): number {
    const words = this.#words;
    let count = this.#count;
    let hash = FNV_OFFSET;
    let isInWord = false;
    let at = start;
    for (;;) {
      let unit = ASCII[source[at] as number] as number;
      if (unit !== 0 && unit !== HALT) {
        do {
          hash = Math.imul(hash ^ unit, FNV_PRIME);
          unit = ASCII[source[++at] as number] as number;
        } while (unit !== 0 && unit !== HALT);
        isInWord = true;
      }
      let kind = 0;
      if (unit === HALT) {
        const byte = source[at] as number;
        if (byte === QUOTE) break;
        if (byte === BACKSLASH) {
          // What is written by its number may be half a character.
          if (source[++at] === SMALL_U) return -1;
        } else if (byte < 0xf0) {
          unit = this.#lower[byte < 0xe0 ? twoBytes(source, at) : threeBytes(source, at)] as number;
          if (unit === 0) return -1;
          at += byte < 0xe0 ? 1 : 2;
          kind = this.#kinds[unit] as number;
        } else {
          const character = fourBytes(source, at);
          if (character < CASELESS_FROM) return -1;
          if (isInWord) words[count++] = hash;
          isInWord = false;
          words[count++] = Math.imul(FNV_OFFSET ^ (0xd7c0 + (character >> 10)), FNV_PRIME);
          unit = 0xdc00 + (character & 0x3ff);
          at += 3;
          kind = ALONE;
        }
      }
      at++;
      if (kind === IN_WORD) {
        hash = Math.imul(hash ^ unit, FNV_PRIME);
        isInWord = true;
        continue;
      }
      if (isInWord) words[count++] = hash;
      if (kind === ALONE) words[count++] = Math.imul(FNV_OFFSET ^ unit, FNV_PRIME);
      hash = FNV_OFFSET;
      isInWord = false;
    }
    if (isInWord) words[count++] = hash;
    this.#count = count;
    return at;
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
