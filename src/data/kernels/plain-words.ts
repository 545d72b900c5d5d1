// ASCII text in lower case, 16 bytes at once, where that is all that makes it plain: no escape, no white space but single blanks.
import {
  againIf,
  createMemory,
  get,
  growTo,
  i32,
  instantiate,
  type KernelFunction,
  loop,
  OP,
  set,
  tee,
  v128,
  when,
} from './assembler.ts';
import { flag, isMarkedBytes, tableOf } from './byte-marks.ts';

const BLANK = 0x20;
const BACKSLASH = 0x5c;
const CAPITAL_A = 0x41;
const CAPITALS = 26;
/** Set in small letters, not in capitals. */
const SMALL = 0x20;

/** Control characters, DEL, backslashes and all that is not ASCII. */
const ODD_BYTES = {
  low: tableOf((low) => 1 | flag(low === (BACKSLASH & 15), 2) | flag(low === 15, 4)),
  high: tableOf((high) => flag(high < 2 || high >= 8, 1) | flag(high === BACKSLASH >> 4, 2) | flag(high === 7, 4)),
};

const all = (byte: number) => v128(tableOf(() => byte));

/** Names of locals. */
const [FROM, TO, OUT, BYTES, BLANKS, BEFORE] = [0, 1, 2, 3, 4, 5];

/** `(from, to, out)`: 1 = it was written there; 0 = it is not so simple. Looks at blocks of 16 bytes. */
const LOWER: KernelFunction = {
  parameters: 3,
  hasResult: true,
  locals: ['v128', 'i32', 'i32'],
  code: [
    ...loop(
      [...get(FROM), ...OP.load128, ...set(BYTES)],
      [...isMarkedBytes(ODD_BYTES, get(BYTES)), ...OP.bitmaskBytes],
      when(i32(0), [...OP.return]),
      [...get(BYTES), ...all(BLANK), ...OP.equalBytes, ...OP.bitmaskBytes, ...tee(BLANKS)],
      [...get(BLANKS), ...i32(1), ...OP.shiftLeft, ...get(BEFORE), ...OP.or, ...OP.and],
      when(i32(0), [...OP.return]),
      [...get(BLANKS), ...i32(15), ...OP.shiftRight, ...set(BEFORE)],
      [...get(OUT), ...get(BYTES), ...get(BYTES), ...all(CAPITAL_A), ...OP.subBytes, ...all(CAPITALS)],
      [...OP.lessUnsignedBytes, ...all(SMALL), ...OP.and128, ...OP.or128, ...OP.store128],
      [...get(OUT), ...i32(16), ...OP.add, ...set(OUT)],
      [...get(FROM), ...i32(16), ...OP.add, ...tee(FROM), ...get(TO), ...OP.lessUnsigned, ...againIf(0)],
    ),
    ...i32(1),
  ],
};

/** Room made at first: most questions are shorter. */
const TEXT_BYTES_MIN = 4 * 1024;
const BLOCK_BYTES = 16;
/** Fills the last block. */
const LETTER = 'a'.charCodeAt(0);

export class PlainWords {
  readonly #memory = createMemory();
  readonly #kernel = instantiate<{ lower(from: number, to: number, out: number): number }>(this.#memory, {
    lower: LOWER,
  });
  #bytes = Buffer.alloc(0);
  #target = Buffer.alloc(0);

  /** The text [from, to) without blanks at its ends; valid until the next call. null = it is not so simple. */
  of(source: Buffer, from: number, to: number): Buffer | null {
    let [start, end] = [from, to];
    while (start < end && source[start] === BLANK) start++;
    while (end > start && source[end - 1] === BLANK) end--;
    const length = end - start;
    if (length === 0) return null;
    if (length + BLOCK_BYTES > this.#bytes.length) this.#makeRoom(length + BLOCK_BYTES);
    source.copy(this.#bytes, 0, start, end);
    this.#bytes.fill(LETTER, length, length + BLOCK_BYTES);
    return this.#kernel.lower(0, length, this.#bytes.length) === 1 ? this.#target.subarray(0, length) : null;
  }

  /** What is made of the text lies behind it. */
  #makeRoom(sizeBytes: number): void {
    const room = Math.ceil(Math.max(2 * sizeBytes, TEXT_BYTES_MIN) / BLOCK_BYTES) * BLOCK_BYTES;
    growTo(this.#memory, 2 * room);
    this.#bytes = Buffer.from(this.#memory.buffer, 0, room);
    this.#target = Buffer.from(this.#memory.buffer, room, room);
  }
}
