// A line of JSON text, and the hashes of the ASCII words in it. What is no ASCII it leaves to whoever asks.
import {
  again,
  createMemory,
  get,
  growTo,
  i32,
  i64,
  instantiate,
  type KernelFunction,
  loop,
  OP,
  set,
  tee,
  when,
} from './assembler.ts';
import { HALTING_BYTES, type Mark, markFunction, WORD_BYTES } from './byte-marks.ts';

/** What the hash of a word begins with. */
export const WORD_SEED = 0x811c9dc5 | 0;
const WORD_FACTOR = 0x9e3779b1 | 0;
const WORD_SHIFT = 15;
/** Bytes of a word that are hashed at a time, the last ones with zeros behind them. */
export const BYTES_AT_ONCE = 8;

/** A word's hash with eight more of its bytes, as two numbers. */
export function stir(hash: number, first: number, second: number): number {
  const product = Math.imul(hash ^ first, WORD_FACTOR);
  const both = Math.imul((product ^ (product >>> WORD_SHIFT)) + second, WORD_FACTOR);
  return both ^ (both >>> WORD_SHIFT);
}

/** Set in ASCII letters in lower case, and in digits. */
export const LOWER_CASE = 0x20;
const LOWER_CASES = 0x2020202020202020n;

/** Bytes that are looked at together. */
const BLOCK_BYTES = 64;

/** Names of locals. The last ones are i64. */
const [AT, IN_WORDS, HALTS, END, OUT, HASH, START, BLOCK] = [0, 1, 2, 3, 4, 5, 6, 7];
const [OWN, HALTING, EDGES, BIT, CHUNK] = [8, 9, 10, 11, 12];
const NO_WORD = -1;

/** The marks of the block. */
const marksOf = (marks: number) => [
  ...[...get(BLOCK), ...i32(3), ...OP.shiftRight, ...get(marks), ...OP.add, ...OP.load64],
];

/** Bytes where words begin and end, and those that halt. On the stack lies what of the byte before the block is shifted into it. */
const findEdges = [
  ...[...get(OWN), ...i64(1n), ...OP.shiftLeft64, ...OP.or64, ...get(OWN), ...OP.xor64],
  ...[...get(HALTING), ...OP.or64, ...set(EDGES)],
];

const multiplied = [
  ...[...i32(WORD_FACTOR), ...OP.mul, ...tee(HASH), ...get(HASH), ...i32(WORD_SHIFT), ...OP.shiftRight],
  ...[...OP.xor, ...set(HASH)],
];

/** `stir`, of the chunk. */
const stirred = [
  ...[...get(HASH), ...get(CHUNK), ...OP.wrap64, ...OP.xor, ...multiplied],
  ...[...get(HASH), ...get(CHUNK), ...i64(32n), ...OP.shiftRight64, ...OP.wrap64, ...OP.add, ...multiplied],
];

const loadChunk = [...get(START), ...OP.load64, ...i64(LOWER_CASES), ...OP.or64, ...set(CHUNK)];
const bytesLeft = [...get(AT), ...get(START), ...OP.sub];

/** The word from START to AT. */
const hashWord = [
  ...[...i32(WORD_SEED), ...set(HASH)],
  ...loop(
    loadChunk,
    [...bytesLeft, ...i32(BYTES_AT_ONCE), ...OP.greaterUnsigned],
    when(stirred, [...get(START), ...i32(BYTES_AT_ONCE), ...OP.add, ...set(START)], again(1)),
  ),
  // Of the chunk the bytes of the word alone.
  ...[...get(CHUNK), ...i64(-1n), ...i64(64n), ...bytesLeft, ...OP.extend, ...i64(3n), ...OP.shiftLeft64, ...OP.sub64],
  ...[...OP.shiftRight64, ...OP.and64, ...set(CHUNK), ...stirred],
];

const isMarked = (marks: number) => [
  ...[...get(marks), ...get(BIT), ...OP.shiftRight64, ...OP.wrap64, ...i32(1), ...OP.and],
];
const giveBack = (at: number) => [...get(END), ...get(OUT), ...OP.store32, ...get(at), ...OP.return];

/**
 * `(at, inWords, halts, end)`: writes the hashes of the words from `at` on to where it says at `end`, and says there where they end. Gives
 * where a byte stands that halts, or where the word begins that goes on with one. Looks at blocks of 64 bytes.
 */
const SCAN: KernelFunction = {
  parameters: 4,
  hasResult: true,
  locals: ['i32', 'i32', 'i32', 'i32', 'i64', 'i64', 'i64', 'i64', 'i64'],
  code: [
    ...[...get(END), ...OP.load32, ...set(OUT), ...i32(NO_WORD), ...set(START)],
    ...[...get(AT), ...i32(-BLOCK_BYTES), ...OP.and, ...set(BLOCK)],
    // What stands before AT is not looked at.
    ...[...i64(-1n), ...get(AT), ...OP.extend, ...OP.shiftLeft64, ...set(BIT)],
    ...[...marksOf(IN_WORDS), ...get(BIT), ...OP.and64, ...set(OWN)],
    ...[...marksOf(HALTS), ...get(BIT), ...OP.and64, ...set(HALTING)],
    ...[...i64(0n), ...findEdges],
    ...loop(
      [...get(EDGES), ...OP.isZero64],
      when(
        [...get(OWN), ...i64(63n), ...OP.shiftRight64],
        [...get(BLOCK), ...i32(BLOCK_BYTES), ...OP.add, ...set(BLOCK)],
        [...marksOf(IN_WORDS), ...set(OWN), ...marksOf(HALTS), ...set(HALTING)],
        findEdges,
        again(1),
      ),
      [...get(EDGES), ...OP.ctz64, ...tee(BIT), ...OP.wrap64, ...get(BLOCK), ...OP.add, ...set(AT)],
      [...get(EDGES), ...get(EDGES), ...i64(1n), ...OP.sub64, ...OP.and64, ...set(EDGES)],
      isMarked(OWN),
      when(get(AT), set(START), again(1)),
      [...get(START), ...i32(NO_WORD), ...OP.notEqual],
      when(
        [...get(AT), ...OP.load8Signed, ...i32(0), ...OP.lessSigned],
        when(giveBack(START)),
        hashWord,
        [...get(OUT), ...get(HASH), ...OP.store32, ...get(OUT), ...i32(4), ...OP.add, ...set(OUT)],
        [...i32(NO_WORD), ...set(START)],
      ),
      isMarked(HALTING),
      when(giveBack(AT)),
      again(0),
    ),
    ...OP.unreachable,
  ],
};

type Scan = (at: number, inWords: number, halts: number, end: number) => number;

/** Room made at first: most rows are shorter. */
const LINE_BYTES_MIN = 16 * 1024;
const QUOTE = 0x22;

export class WordLine {
  /** The line, with room behind it. */
  bytes: Buffer = Buffer.alloc(0);
  readonly #memory = createMemory();
  readonly #kernel = instantiate<{ markWords: Mark; markHalts: Mark; scan: Scan }>(this.#memory, {
    markWords: markFunction(WORD_BYTES),
    markHalts: markFunction(HALTING_BYTES),
    scan: SCAN,
  });
  /** Where the marks stand in memory, and where the words end. */
  #inWords = 0;
  #halts = 0;
  #end = 0;
  /** From `#end` on: the address of the last word's end, then the words. */
  #numbers = new Int32Array(0);

  /** Takes over a copy of [from, to), and forgets the words. A text that has no end has one behind the line. */
  read(source: Buffer, from: number, to: number): void {
    const sizeBytes = to - from;
    if (sizeBytes + BYTES_AT_ONCE > this.bytes.length) this.#makeRoom(sizeBytes + BYTES_AT_ONCE);
    source.copy(this.bytes, 0, from, to);
    this.bytes[sizeBytes] = QUOTE;
    const marked = sizeBytes + 1;
    this.#kernel.markWords(0, marked, this.#inWords);
    this.#kernel.markHalts(0, marked, this.#halts);
    this.count = 0;
  }

  /** Adds the words of ASCII from there on. Gives where something else stands, or where the word begins that goes on with it. */
  scan(at: number): number {
    return this.#kernel.scan(at, this.#inWords, this.#halts, this.#end);
  }

  /** Words so far. */
  get count(): number {
    return ((this.#numbers[0] as number) - this.#end) / 4 - 1;
  }

  set count(words: number) {
    this.#numbers[0] = this.#end + 4 * (1 + words);
  }

  add(word: number): void {
    const { count } = this;
    this.#numbers[1 + count] = word;
    this.count = count + 1;
  }

  /** Valid until the next line is read. */
  words(from: number, to: number): Int32Array {
    return this.#numbers.subarray(1 + from, 1 + to);
  }

  /** A word has a byte behind it, or three bytes: there are half as many as bytes at most. */
  #makeRoom(wanted: number): void {
    const blocks = Math.ceil(Math.max(wanted, LINE_BYTES_MIN) / BLOCK_BYTES);
    const lineBytes = BLOCK_BYTES * blocks;
    this.#inWords = lineBytes;
    this.#halts = this.#inWords + 8 * blocks;
    this.#end = this.#halts + 8 * blocks;
    const numbers = 2 + lineBytes / 2;
    growTo(this.#memory, this.#end + 4 * numbers);
    const { buffer } = this.#memory;
    this.bytes = Buffer.from(buffer, 0, lineBytes);
    this.#numbers = new Int32Array(buffer, this.#end, numbers);
    this.count = 0;
  }
}
