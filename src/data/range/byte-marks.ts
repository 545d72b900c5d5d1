// Marks the bytes of UTF-8 JSON text that a scan has to look at, 16 at once. The kernel is WebAssembly, written out below.

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

function tableOf(bits: (half: number) => number): number[] {
  return Array.from({ length: 16 }, (_, half) => bits(half));
}

function flag(isSet: boolean, bit: number): number {
  return isSet ? bit : 0;
}

const repeated = (byte: number) => tableOf(() => byte);
const vector = (bytes: number[]) => [0xfd, 0x0c, ...bytes];
const section = (id: number, content: number[]) => [id, ...sized(content)];
const sized = (content: number[]) => [...unsigned(content.length), ...content];
/** LEB128. */
const unsigned = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)]);

/** `mark(from, to, out)`: a bit for each byte; `from` and `out` are multiples of 16. Parameters are locals 0 to 2, the bytes local 3. */
const markOf = ({ low, high }: MarkedBytes) => [
  ...[1, 1, 0x7b], // (local v128)
  ...[0x03, 0x40], // loop
  ...[0x20, 2], //   local.get out
  ...vector(low),
  ...[0x20, 0, 0xfd, 0x00, 0, 0, 0x22, 3], //   local.get from, v128.load, local.tee bytes
  ...[...vector(repeated(0x0f)), 0xfd, 0x4e], //   v128.and
  ...[0xfd, 0x0e], //   i8x16.swizzle
  ...vector(high),
  ...[0x20, 3, 0x41, 4, 0xfd, 0x6d], //   local.get bytes, i32.const 4, i8x16.shr_u
  ...[0xfd, 0x0e], //   i8x16.swizzle
  ...[0xfd, 0x4e], //   v128.and
  ...[...vector(repeated(0)), 0xfd, 0x24], //   i8x16.ne
  ...[0xfd, 0x64], //   i8x16.bitmask
  ...[0x3b, 0, 0], //   i32.store16
  ...[0x20, 2, 0x41, 2, 0x6a, 0x21, 2], //   out += 2
  ...[0x20, 0, 0x41, 16, 0x6a, 0x22, 0], //   from += 16
  ...[0x20, 1, 0x49, 0x0d, 0], //   br_if loop, from < to
  ...[0x0b, 0x0b], // end, end
];

const moduleOf = (marked: MarkedBytes) => [
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...section(1, [1, 0x60, 3, 0x7f, 0x7f, 0x7f, 0]), // type: (i32, i32, i32) → ()
  ...section(2, [1, 1, 0x6d, 1, 0x6d, 0x02, 0, 1]), // import: memory "m" "m" of a page or more
  ...section(3, [1, 0]), // function 0 has type 0
  ...section(7, [1, 4, ...Buffer.from('mark'), 0, 0]), // export: function 0 as "mark"
  ...section(10, [1, ...sized(markOf(marked))]),
];

interface Memory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

/** What is used of it: its types come with those of a browser. */
interface WebAssemblyOfNode {
  Memory: new (pages: { initial: number }) => Memory;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: { m: { m: Memory } }) => { exports: { mark: Mark } };
}

const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyOfNode };

const PAGE_BYTES = 65_536;
/** Bytes that there is room for ahead of need: a slice of a source, with the row that began before it. */
const ROOM_BYTES_MIN = 1024 * 1024 + 16 * 1024;

type Mark = (from: number, to: number, out: number) => void;

export class ByteMarks {
  /** Bit i of word w is the mark of byte 32 w + i; somewhere behind the last byte one more is marked. */
  words: Int32Array = new Int32Array(0);
  /** Where the bytes that are marked lie. */
  #bytes: Buffer = Buffer.alloc(0);
  #source: Buffer | null = null;
  readonly #memory = new WebAssembly.Memory({ initial: 1 });
  readonly #mark: Mark;

  constructor(marked: MarkedBytes) {
    const module = new WebAssembly.Module(Uint8Array.from(moduleOf(marked)));
    this.#mark = new WebAssembly.Instance(module, { m: { m: this.#memory } }).exports.mark;
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
    const missing = 32 * words + marksBytes - this.#memory.buffer.byteLength;
    if (missing > 0) this.#memory.grow(Math.ceil(missing / PAGE_BYTES));
    this.#bytes = Buffer.from(this.#memory.buffer, 0, 32 * words);
    this.words = new Int32Array(this.#memory.buffer, 32 * words, words + 1);
  }
}
