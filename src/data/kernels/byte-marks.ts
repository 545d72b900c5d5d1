// Marks the bytes of UTF-8 JSON text that a scan has to look at, 16 at once.
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
} from './assembler.ts';

/** Tables by the low and the high half of a byte: a byte is marked when both have a bit in common. */
interface MarkedBytes {
  low: number[];
  high: number[];
}

/**
 * Control characters, quotes, backslashes, digits, `:`, `@`, `A`, `_` and all that is not ASCII. Of prose these are a few in a hundred.
 */
export const TELLING_BYTES: MarkedBytes = {
  low: tableOf(
    (low) => 1 | 32 | flag(low === 2, 2) | flag(low <= 10, 4) | flag(low <= 1, 8) | flag(low === 12 || low === 15, 16),
  ),
  high: tableOf((high) => (high >= 8 ? 32 : ([1, 1, 2, 4, 8, 16, 0, 0][high] as number))),
};

/** Letters and digits of ASCII. */
export const WORD_BYTES: MarkedBytes = {
  low: tableOf((low) => flag(low <= 9, 1) | flag(low > 0, 2) | flag(low <= 10, 4)),
  high: tableOf((high) => [0, 0, 0, 1, 2, 4, 2, 4][high] ?? 0),
};

/** Quotes, backslashes and all that is not ASCII. */
export const HALTING_BYTES: MarkedBytes = {
  low: tableOf((low) => 4 | flag(low === 2, 1) | flag(low === 12, 2)),
  high: tableOf((high) => (high >= 8 ? 4 : flag(high === 2, 1) | flag(high === 5, 2))),
};

/** By the half of a byte. */
export function tableOf(bits: (half: number) => number): number[] {
  return Array.from({ length: 16 }, (_, half) => bits(half));
}

export function flag(isSet: boolean, bit: number): number {
  return isSet ? bit : 0;
}

const repeated = (byte: number) => tableOf(() => byte);

/** Names of locals. */
const [FROM, TO, OUT, BYTES] = [0, 1, 2, 3];

/** Of 16 bytes all bits of those that are marked. */
export function isMarkedBytes({ low, high }: MarkedBytes, bytes: number[]): number[] {
  const lowHalf = [...bytes, ...v128(repeated(0x0f)), ...OP.and128];
  const highHalf = [...bytes, ...i32(4), ...OP.shiftRightBytes];
  return [
    ...[...v128(low), ...lowHalf, ...OP.swizzle, ...v128(high), ...highHalf, ...OP.swizzle, ...OP.and128],
    ...[...v128(repeated(0)), ...OP.notEqualBytes],
  ];
}

/** `(from, to, out)`: a bit for each byte; `from` and `out` are multiples of 16. */
export function markFunction(marked: MarkedBytes): KernelFunction {
  const code = loop(
    [...get(FROM), ...OP.load128, ...set(BYTES)],
    [...get(OUT), ...isMarkedBytes(marked, get(BYTES)), ...OP.bitmaskBytes, ...OP.store16],
    [...get(OUT), ...i32(2), ...OP.add, ...set(OUT)],
    [...get(FROM), ...i32(16), ...OP.add, ...tee(FROM), ...get(TO), ...OP.lessUnsigned, ...againIf(0)],
  );
  return { parameters: 3, hasResult: false, locals: ['v128'], code };
}

/** Bytes that there is room for ahead of need: a slice of a source, with the row that began before it. */
const ROOM_BYTES_MIN = 1024 * 1024 + 16 * 1024;

export type Mark = (from: number, to: number, out: number) => void;

export class ByteMarks {
  /** Bit i of word w is the mark of byte 32 w + i; somewhere behind the last byte one more is marked. */
  words: Int32Array = new Int32Array(0);
  /** Where the bytes that are marked lie. */
  #bytes: Buffer = Buffer.alloc(0);
  #source: Buffer | null = null;
  readonly #memory = createMemory();
  readonly #mark: Mark;

  constructor(marked: MarkedBytes) {
    this.#mark = instantiate<{ mark: Mark }>(this.#memory, { mark: markFunction(marked) }).mark;
  }

  /** Marks the bytes anew when they are others than last time. What they are must not change meanwhile. */
  markOnce(source: Buffer): void {
    if (source === this.#source) return;
    source.copy(this.room(source.length));
    this.markRoom(source.length);
    this.#source = source;
  }

  /** Memory for so many bytes, to write there what is to be marked; the last one given is no longer valid then. */
  room(sizeBytes: number): Buffer {
    if (sizeBytes > this.#bytes.length) this.#makeRoom(Math.max(sizeBytes, ROOM_BYTES_MIN));
    return this.#bytes;
  }

  /** Marks the first bytes of the room. */
  markRoom(sizeBytes: number): void {
    this.#source = null;
    const words = Math.ceil(sizeBytes / 32);
    if (words > 0) this.#mark(0, 32 * words, this.#bytes.length);
    this.words[words] = -1;
  }

  /** The marks lie behind the bytes. */
  #makeRoom(sizeBytes: number): void {
    const words = Math.ceil(sizeBytes / 32);
    const marksBytes = 4 * (words + 1);
    growTo(this.#memory, 32 * words + marksBytes);
    this.#bytes = Buffer.from(this.#memory.buffer, 0, 32 * words);
    this.words = new Int32Array(this.#memory.buffer, 32 * words, words + 1);
  }
}
