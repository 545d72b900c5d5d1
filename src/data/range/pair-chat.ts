// The fast way of tables that hold a question and its answer: which two columns they are is decided once, from the header; a record
// becomes the JSON text of its chat without being decoded.
// It says nothing of a row that it cannot prove good; the mapper alone decides what is wrong with one.
import { isUtf8 } from 'node:buffer';
import type { RawRecord } from '../csv.ts';
import type { FieldSpan } from '../csv-scan.ts';

/** Columns of a question and of its answer, in the shapes whose two texts become two turns as they stand. */
const PAIRS: readonly (readonly [question: string, answer: string])[] = [
  ['question', 'answer'],
  ['question', 'response'],
  ['query', 'answer'],
  ['query', 'response'],
  ['prompt', 'completion'],
  ['instruction', 'output'],
];

/** Columns with a meaning: with one more of them than two, the mapper is asked. */
const KNOWN = new Set(
  (
    'messages conversations instruction input output prompt completion question query answer response context history system user ' +
    'assistant tools functions images image media chosen rejected preferred_output non_preferred_output label score text weight'
  ).split(' '),
);

const BEFORE_QUESTION = Buffer.from('{"messages":[{"role":"user","content":"');
const BEFORE_ANSWER = Buffer.from('"},{"role":"assistant","content":"');
const AFTER_ANSWER = Buffer.from('"}]}');
const FIXED_BYTES = BEFORE_QUESTION.length + BEFORE_ANSWER.length + AFTER_ANSWER.length;

/** Room beyond need: most records are small, and a large one is rare. */
const SPARE_BYTES_MAX = 1024 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Bytes that JSON writes with a backslash before another one; `NO_ESCAPE` = as they stand, 0 = with their number. */
const NO_ESCAPE = 1;
const ESCAPES = new Uint8Array(256);
ESCAPES.fill(NO_ESCAPE, 0x20);
for (const [character, second] of ['""', '\\\\', '\bb', '\ff', '\nn', '\rr', '\tt'] as const)
  ESCAPES[(character as string).charCodeAt(0)] = (second as string).charCodeAt(0);

/** The chat of a table's record as JSON text: the first `length` of the bytes, until the next one is asked for. */
export class PairChat {
  bytes: Buffer = Buffer.allocUnsafeSlow(0);
  length = 0;
  readonly #question: number;
  readonly #answer: number;

  private constructor(question: number, answer: number) {
    this.#question = question;
    this.#answer = answer;
  }

  /** null when the columns tell of anything but a pair. */
  static of(columns: string[]): PairChat | null {
    const known = columns.filter((column) => KNOWN.has(column.toLowerCase()));
    const pair = PAIRS.find((names) => known.length === 2 && names.every((name) => known.includes(name)));
    if (pair === undefined) return null;
    const [question, answer] = pair.map((name) => columns.indexOf(name)) as [number, number];
    return new PairChat(question, answer);
  }

  /**
   * @param marks of the source's bytes
   * @returns false for a record that is not UTF-8, or has what JSON writes by its number.
   */
  write({ source, from, to, fields }: RawRecord, marks: Int32Array): boolean {
    this.#makeRoom(FIXED_BYTES + 2 * (to - from));
    this.length = 0;
    return (
      isUtf8(source.subarray(from, to)) &&
      this.#addField(BEFORE_QUESTION, source, fields[this.#question] as FieldSpan, marks) &&
      this.#addField(BEFORE_ANSWER, source, fields[this.#answer] as FieldSpan, marks) &&
      this.#add(AFTER_ANSWER)
    );
  }

  #makeRoom(sizeBytes: number): void {
    if (this.bytes.length >= sizeBytes) return;
    this.bytes = Buffer.allocUnsafeSlow(Math.max(sizeBytes, Math.min(2 * sizeBytes, SPARE_BYTES_MAX)));
  }

  #add(fixed: Buffer): true {
    const { bytes, length } = this;
    for (let i = 0; i < fixed.length; i++) bytes[length + i] = fixed[i] as number;
    this.length += fixed.length;
    return true;
  }

  #addField(before: Buffer, source: Buffer, field: FieldSpan, marks: Int32Array): boolean {
    this.#add(before);
    const { bytes } = this;
    let at = this.length;
    /** What is before it was written. */
    let from = field.from;
    let word = from >>> 5;
    let bits = (marks[word] as number) & (-1 << (from & 31));
    for (;;) {
      while (bits === 0) bits = marks[++word] as number;
      const marked = (word << 5) + 31 - Math.clz32(bits & -bits);
      bits &= bits - 1;
      if (marked >= field.to) break;
      const second = ESCAPES[source[marked] as number] as number;
      // The second one of two quotes was written with the first.
      if (second === NO_ESCAPE || marked < from) continue;
      if (second === 0) return false;
      at += source.copy(bytes, at, from, marked);
      bytes[at++] = BACKSLASH;
      bytes[at++] = second;
      from = source[marked] === QUOTE && field.hasDoubledQuotes ? marked + 2 : marked + 1;
    }
    this.length = at + source.copy(bytes, at, from, field.to);
    return true;
  }
}
