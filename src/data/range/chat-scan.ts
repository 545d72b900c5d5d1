// The fast way of the rows that most chats are: one look at a row's bytes proves that mapping the row and writing it anew would give
// them back, measures it, and tells whether something private may be in it. No text is decoded.
// It says nothing of a row that it cannot prove good; the mapper alone decides what is wrong with one.
import { isUtf8 } from 'node:buffer';
import type { Fields } from '../fields.ts';
import { ByteSignals } from '../privacy/byte-signals.ts';
import { FieldScan } from './field-scan.ts';
import { PlainBytes, plainText } from './plain-text.ts';

/** What stands between the texts of a chat that has no more than roles and texts, written without white space. */
const OPEN = Buffer.from('"messages":[{"role":"');
const BETWEEN = Buffer.from('"},{"role":"');
const CLOSE = Buffer.from('"}]');
const USER = Buffer.from('user","content":"');
const ASSISTANT = Buffer.from('assistant","content":"');
const SYSTEM = Buffer.from('system","content":"');
const DEVELOPER = Buffer.from('developer","content":"');

/** Fields of a row that mean something beside its messages. */
const OTHER_FIELDS = [
  'messages',
  'tools',
  'functions',
  'images',
  'image',
  'media',
  'system',
  'system_prompt',
  'label',
  'kto_tag',
].map((name) => Buffer.from(name));

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** Kinds of the bytes that are marked. Of the others, 0, are what cannot begin a character and what JSON writes by its number. */
const END = 1;
const ESCAPE = 2;
const TWO_BYTES = 3;
const THREE_BYTES = 4;
const FOUR_BYTES = 5;
const DIGIT = 6;
const COLON = 7;
const AT_SIGN = 8;
const CAPITAL_A = 9;
const UNDERSCORE = 10;
const KINDS = new Uint8Array(256);
KINDS.fill(TWO_BYTES, 0xc0, 0xe0);
KINDS.fill(THREE_BYTES, 0xe0, 0xf0);
KINDS.fill(FOUR_BYTES, 0xf0, 0xf8);
for (const [characters, kind] of [
  ['"', END],
  ['\\', ESCAPE],
  ['0123456789', DIGIT],
  [':', COLON],
  ['@', AT_SIGN],
  ['A', CAPITAL_A],
  ['_', UNDERSCORE],
] as const)
  for (const character of characters) KINDS[character.charCodeAt(0)] = kind;

/** What may stand behind a backslash so that `JSON.stringify` would write it so. */
const isEscaped = new Uint8Array(256);
for (const character of '"\\bfnrt') isEscaped[character.charCodeAt(0)] = 1;

/** Where a part of the row stands: [from, to). */
interface Span {
  from: number;
  to: number;
}

/** What the scan of a row found; of the row that was scanned last. */
export class ChatScan {
  source: Buffer = Buffer.alloc(0);
  /** The row's content, without the braces of a row. */
  from = 0;
  to = 0;
  messages = 0;
  hasSystem = false;
  /** UTF-16 code units of all texts, and of the last answer. */
  characters = 0;
  answerChars = 0;
  readonly #question: Span = { from: 0, to: 0 };
  readonly #answer: Span = { from: 0, to: 0 };
  readonly #signals = new ByteSignals();
  readonly #plainBytes = new PlainBytes();
  #marks: Int32Array = new Int32Array(0);
  #isAscii = true;
  /** Of the text that was scanned last. */
  #chars = 0;
  /** The fields before the messages and behind them; empty where there are none. */
  readonly #head: Span = { from: 0, to: 0 };
  readonly #tail: Span = { from: 0, to: 0 };
  readonly #fields = new FieldScan();

  /**
   * @param marks of the source's bytes
   * @returns whether the row goes the fast way; if not, nothing here means anything.
   */
  scan(source: Buffer, from: number, to: number, marks: Int32Array): boolean {
    this.source = source;
    this.#marks = marks;
    this.messages = 0;
    this.characters = 0;
    this.#isAscii = true;
    this.#question.to = 0;
    this.#signals.reset();
    if (source[from] !== OPEN_BRACE || !this.#findOpen(from + 1, to)) return false;
    this.to = this.#scanMessages(this.from + OPEN.length, to);
    return this.to !== -1 && this.#readTail(to) && (this.#isAscii || isUtf8(source.subarray(from, to)));
  }

  /** False = no detector finds anything in the content. */
  get mayBePrivate(): boolean {
    return this.#signals.mayHold;
  }

  /** JSON text of the content. */
  get json(): string {
    return `{${this.#decode(this.from, this.to)}}`;
  }

  /** Text of the first user message. */
  get question(): string {
    const { from, to } = this.#question;
    return this.#textOf(from, to);
  }

  /** The same as it groups rows, as bytes where it is ASCII; valid until it is asked for again. */
  get plainQuestion(): string | Uint8Array {
    const { from, to } = this.#question;
    return this.#plainBytes.of(this.source, from, to) ?? plainText(this.question);
  }

  get answerIsQuestion(): boolean {
    const { from, to } = this.#question;
    const answer = this.#answer;
    return (
      to - from === answer.to - answer.from && this.source.compare(this.source, from, to, answer.from, answer.to) === 0
    );
  }

  /** A field of the row beside the content. */
  field(name: string): unknown {
    for (const { from, to } of [this.#tail, this.#head]) {
      const fields = from === to ? {} : (JSON.parse(`{${this.#decode(from, to)}}`) as Fields);
      if (Object.hasOwn(fields, name)) return fields[name];
    }
    return undefined;
  }

  /** As the row's first field, or behind others. */
  #findOpen(from: number, to: number): boolean {
    const { source } = this;
    this.#head.from = this.#head.to;
    this.from = from;
    if (standsAt(source, from, to, OPEN)) return true;
    if (source[from] !== QUOTE) return false;
    this.from = from + source.subarray(from, to).indexOf(OPEN);
    if (this.from <= from || source[this.from - 1] !== COMMA) return false;
    return this.#scanFields(from, this.from - 1, this.#head);
  }

  /** User and assistant by turns, with a system or developer message before them or not. @returns what is behind the list, or -1 */
  #scanMessages(from: number, to: number): number {
    const { source } = this;
    this.hasSystem = standsAt(source, from, to, SYSTEM);
    let role = this.hasSystem ? SYSTEM : standsAt(source, from, to, DEVELOPER) ? DEVELOPER : USER;
    for (let at = from; standsAt(source, at, to, role); at += BETWEEN.length) {
      const start = at + role.length;
      at = this.#scanText(start, to);
      if (at === -1 || !this.#hasText(start, at)) return -1;
      this.#noteText(role, start, at);
      if (standsAt(source, at, to, CLOSE)) return role === ASSISTANT ? at + CLOSE.length : -1;
      if (!standsAt(source, at, to, BETWEEN)) return -1;
      role = role === USER ? ASSISTANT : USER;
    }
    return -1;
  }

  #noteText(role: Buffer, from: number, to: number): void {
    this.messages++;
    this.characters += this.#chars;
    if (role === ASSISTANT) {
      this.#answer.from = from;
      this.#answer.to = to;
      this.answerChars = this.#chars;
    } else if (role === USER && this.#question.to === 0) {
      this.#question.from = from;
      this.#question.to = to;
    }
  }

  /** @returns offset of the closing quote; -1 for what `JSON.stringify` would not write so. */
  #scanText(from: number, to: number): number {
    const source = this.source;
    const marks = this.#marks;
    const signals = this.#signals;
    /** Bytes that are no code unit. */
    let without = 0;
    let word = from >>> 5;
    let bits = (marks[word] as number) & (-1 << (from & 31));
    for (;;) {
      while (bits === 0) bits = marks[++word] as number;
      const at = (word << 5) + 31 - Math.clz32(bits & -bits);
      bits &= bits - 1;
      if (at >= to) return -1;
      /** Where it goes on, when not at the next mark. */
      let next = 0;
      switch (KINDS[source[at] as number]) {
        case END:
          this.#chars = at - from - without;
          return at;
        case ESCAPE:
          if (isEscaped[source[at + 1] as number] === 0) return -1;
          without++;
          next = at + 2;
          break;
        case TWO_BYTES:
          without++;
          next = at + 2;
          this.#isAscii = false;
          signals.noteWide(source, at);
          break;
        case THREE_BYTES:
          without += 2;
          next = at + 3;
          this.#isAscii = false;
          signals.noteWide(source, at);
          break;
        case FOUR_BYTES:
          // Two units.
          without += 2;
          next = at + 4;
          this.#isAscii = false;
          break;
        case DIGIT:
          signals.noteDigit(source, at, from, to);
          break;
        case COLON:
          signals.noteColon(source, at);
          break;
        case AT_SIGN:
          signals.noteAtSign();
          break;
        case CAPITAL_A:
          signals.noteCapitalA(source, at);
          break;
        case UNDERSCORE:
          signals.noteUnderscore(source, at);
          break;
        default:
          return -1;
      }
      if (next === 0) continue;
      if (next >= to) return -1;
      word = next >>> 5;
      bits = (marks[word] as number) & (-1 << (next & 31));
    }
  }

  #hasText(from: number, to: number): boolean {
    const first = this.source[from] as number;
    if (first > 0x20 && first < 0x7f && first !== BACKSLASH && first !== QUOTE) return true;
    return from < to && this.#textOf(from, to).trim() !== '';
  }

  /** What is behind the content: the row's end, or more fields. */
  #readTail(to: number): boolean {
    const { source } = this;
    this.#tail.from = this.#tail.to;
    if (source[this.to] === CLOSE_BRACE && this.to + 1 === to) return true;
    if (source[this.to] !== COMMA || source[this.to + 1] !== QUOTE || source[to - 1] !== CLOSE_BRACE) return false;
    return this.#scanFields(this.to + 1, to - 1, this.#tail);
  }

  /** Notes where they stand; false for what is no fields, and for fields that change what the row means. */
  #scanFields(from: number, to: number, found: Span): boolean {
    const fields = this.#fields;
    fields.isAscii = true;
    found.from = from;
    found.to = to;
    if (!fields.scan(this.source, from, to, OTHER_FIELDS)) return false;
    this.#isAscii &&= fields.isAscii;
    return true;
  }

  #textOf(from: number, to: number): string {
    const text = this.#decode(from, to);
    return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text;
  }

  #decode(from: number, to: number): string {
    return this.source.toString(this.#isAscii ? 'latin1' : 'utf8', from, to);
  }
}

function standsAt(bytes: Buffer, at: number, to: number, wanted: Buffer): boolean {
  if (at + wanted.length > to) return false;
  for (let i = 0; i < wanted.length; i++) if (bytes[at + i] !== wanted[i]) return false;
  return true;
}
