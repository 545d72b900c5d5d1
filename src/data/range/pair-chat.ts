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
    'messages conversations instruction input output prompt completion question query answer response context history system system_prompt user ' +
    'assistant tools functions images image media chosen rejected preferred_output non_preferred_output label kto_tag score text weight'
  ).split(' '),
);

const BEFORE_QUESTION = Buffer.from('{"messages":[{"role":"user","content":"');
const BEFORE_ANSWER = Buffer.from('"},{"role":"assistant","content":"');
const AFTER_ANSWER = Buffer.from('"}]}');
const FIXED_BYTES = BEFORE_QUESTION.length + BEFORE_ANSWER.length + AFTER_ANSWER.length;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Bytes that JSON writes with a backslash before another one; `NO_ESCAPE` = as they stand, 0 = with their number. */
const NO_ESCAPE = 1;
const ESCAPES = new Uint8Array(256);
ESCAPES.fill(NO_ESCAPE, 0x20);
for (const [character, second] of ['""', '\\\\', '\bb', '\ff', '\nn', '\rr', '\tt'] as const)
  ESCAPES[(character as string).charCodeAt(0)] = (second as string).charCodeAt(0);

/** How the records of a table become chats. */
export class PairChat {
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

  /** At most so many bytes has the chat's JSON text. */
  bytesOf({ from, to }: RawRecord): number {
    return FIXED_BYTES + 2 * (to - from);
  }

  /**
   * Writes the chat's JSON text into the target.
   * @param marks of the source's bytes
   * @returns its bytes; -1 for a record that is not UTF-8, or has what JSON writes by its number
   */
  write({ source, from, to, fields }: RawRecord, marks: Int32Array, target: Buffer): number {
    if (!isUtf8(source.subarray(from, to))) return -1;
    let at = addFixed(BEFORE_QUESTION, target, 0);
    at = addField(source, fields[this.#question] as FieldSpan, marks, target, at);
    if (at === -1) return -1;
    at = addFixed(BEFORE_ANSWER, target, at);
    at = addField(source, fields[this.#answer] as FieldSpan, marks, target, at);
    return at === -1 ? -1 : addFixed(AFTER_ANSWER, target, at);
  }
}

/** @returns the end of what was written */
function addFixed(fixed: Buffer, target: Buffer, at: number): number {
  for (let i = 0; i < fixed.length; i++) target[at + i] = fixed[i] as number;
  return at + fixed.length;
}

/** @returns the end of what was written, or -1 */
function addField(source: Buffer, field: FieldSpan, marks: Int32Array, target: Buffer, start: number): number {
  let at = start;
  /** What is before it was written. */
  let from = field.from;
  let word = from >>> 5;
  let bits = (marks[word] as number) & (-1 << (from & 31));
  for (;;) {
    while (bits === 0) bits = marks[++word] as number;
    const marked = (word << 5) + 31 - Math.clz32(bits & -bits);
    bits &= bits - 1;
    if (marked >= field.to) break;
    const byte = source[marked] as number;
    const second = ESCAPES[byte] as number;
    // The second one of two quotes was written with the first.
    if (second === NO_ESCAPE || marked < from) continue;
    if (second === 0) return -1;
    at = addBytes(source, from, marked, target, at);
    target[at++] = BACKSLASH;
    target[at++] = second;
    from = byte === QUOTE && field.hasDoubledQuotes ? marked + 2 : marked + 1;
  }
  return addBytes(source, from, field.to, target, at);
}

/** From here on copying is a call. */
const CALL_BYTES_MIN = 64;

/** @returns the end of what was written */
function addBytes(source: Buffer, from: number, to: number, target: Buffer, at: number): number {
  if (to - from >= CALL_BYTES_MIN) return at + source.copy(target, at, from, to);
  for (let i = from; i < to; i++) target[at + i - from] = source[i] as number;
  return at + to - from;
}
