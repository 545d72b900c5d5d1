// The words of a cleaned row's own texts, hashed as `createWordHasher` does, from the row's line as it lies in its file. Chats and texts
// of the form that cleaning writes most are read without being decoded; whatever else there is, is parsed.
import type { Content } from '../mapping.ts';
import { ByteMarks, HALTING_BYTES, WORD_BYTES } from '../range/byte-marks.ts';
import { ownTexts } from '../row-texts.ts';
import {
  ALONE,
  createWordHasher,
  hashUnit,
  hashUnits,
  IN_WORD,
  stir,
  UNITS_AT_ONCE,
  unitKinds,
  WORD_SEED,
} from './words.ts';

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

/** Set in ASCII letters in lower case, and in digits. */
const LOWER_CASE = 0x20;
const LOWER_CASES = 0x20202020;

/** By the bytes of a word that are left, what of the first and of the second four bytes is the word's. */
const FIRST_BYTES = Int32Array.from({ length: UNITS_AT_ONCE + 1 }, (_, left) => maskOf(left));
const SECOND_BYTES = Int32Array.from({ length: UNITS_AT_ONCE + 1 }, (_, left) => maskOf(left - 4));

function maskOf(bytes: number): number {
  return bytes >= 4 ? -1 : bytes <= 0 ? 0 : (1 << (8 * bytes)) - 1;
}

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

/** Bytes that may be read behind a line: a word is read eight at a time. */
const BEHIND_BYTES = UNITS_AT_ONCE;

export class RowWords {
  /** Rows that had to be parsed. */
  parsedRows = 0;
  /** The line. */
  #line: Buffer = Buffer.alloc(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  readonly #inWords = new ByteMarks(WORD_BYTES);
  readonly #halts = new ByteMarks(HALTING_BYTES);
  /** Code units of a word that is not all ASCII. */
  #units = new Uint16Array(0);
  /** Of the row's texts, one behind the other. */
  #words = new Int32Array(0);
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
    this.#makeRoom(4096);
  }

  /** Calls back with the words of each text of the line [from, to), in their order; they are valid until the next line. */
  eachText(source: Buffer, from: number, to: number, take: TakeText): void {
    this.#clear();
    if (this.#units.length < to - from) this.#makeRoom(2 * (to - from));
    this.#read(source, from, to);
    if (!this.#scan(this.#line, CONTENT_AT)) {
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

  /** For a line of so many bytes: there are no more words than bytes. */
  #makeRoom(sizeBytes: number): void {
    this.#units = new Uint16Array(sizeBytes);
    if (this.#words.length < sizeBytes) this.#words = new Int32Array(sizeBytes);
  }

  /** Makes it the line, and marks its bytes. */
  #read(source: Buffer, from: number, to: number): void {
    const sizeBytes = to - from;
    const line = this.#inWords.room(sizeBytes + BEHIND_BYTES);
    if (line !== this.#line) this.#view = new DataView(line.buffer);
    this.#line = line;
    for (const marks of [this.#inWords, this.#halts]) {
      const room = marks.room(sizeBytes + BEHIND_BYTES);
      source.copy(room, 0, from, to);
      // A text that has no end has one there.
      room[sizeBytes] = QUOTE;
      marks.markRoom(sizeBytes + 1);
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
    for (let at = this.#scanWords(source, start); ; at = this.#scanWords(source, at)) {
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

  /** Adds words of ASCII. Gives where something else stands, or where the word begins that it is in. */
  #scanWords(source: Buffer, start: number): number {
    const inWords = this.#inWords.words;
    const halts = this.#halts.words;
    const words = this.#words;
    const view = this.#view;
    let block = start >>> 5;
    const since = -1 << (start & 31);
    /** Of 32 bytes, which are in words. */
    let own = (inWords[block] as number) & since;
    /** Of the same bytes, where words begin and end, and what is something else. */
    let bits = (own ^ (own << 1)) | ((halts[block] as number) & since);
    let count = this.#count;
    let from = -1;
    for (;;) {
      while (bits === 0) {
        const last = own >>> 31;
        own = inWords[++block] as number;
        bits = (own ^ ((own << 1) | last)) | (halts[block] as number);
      }
      const at = (block << 5) + 31 - Math.clz32(bits & -bits);
      bits &= bits - 1;
      const kind = KINDS[source[at] as number] as number;
      if (kind === IN_WORD) {
        from = at;
        continue;
      }
      if (from !== -1 && kind !== WIDE) words[count++] = hashAscii(view, from, at);
      if (kind !== 0) {
        this.#count = count;
        return kind === WIDE && from !== -1 ? from : at;
      }
      from = -1;
    }
  }

  /** Adds the words up to the next ASCII character that is in none. Gives where that stands, or -1. */
  #scanWide(source: Buffer, from: number): number {
    const units = this.#units;
    let length = 0;
    let at = from;
    for (;;) {
      const byte = source[at] as number;
      if (byte < 0x80) {
        if (KINDS[byte] !== IN_WORD) break;
        units[length++] = byte | LOWER_CASE;
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
          units[length++] = unit;
          continue;
        }
      }
      if (length > 0) this.#words[this.#count++] = hashUnits(units, 0, length);
      length = 0;
      if (kind === ALONE) this.#words[this.#count++] = hashUnit(unit);
      if (byte < 0xf0) continue;
      const character = fourBytes(source, at);
      if (character < CASELESS_FROM) return -1;
      this.#words[this.#count++] = hashUnit(0xd7c0 + (character >> 10));
      this.#words[this.#count++] = hashUnit(0xdc00 + (character & 0x3ff));
      at += 4;
    }
    if (length > 0) this.#words[this.#count++] = hashUnits(units, 0, length);
    return at;
  }
}

/** Hash of the word [from, to) of ASCII letters and digits. */
function hashAscii(view: DataView, from: number, to: number): number {
  let hash = WORD_SEED;
  let at = from;
  for (; to - at > UNITS_AT_ONCE; at += UNITS_AT_ONCE)
    hash = stir(hash, view.getInt32(at, true) | LOWER_CASES, view.getInt32(at + 4, true) | LOWER_CASES);
  const first = (view.getInt32(at, true) | LOWER_CASES) & (FIRST_BYTES[to - at] as number);
  return stir(hash, first, (view.getInt32(at + 4, true) | LOWER_CASES) & (SECOND_BYTES[to - at] as number));
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
