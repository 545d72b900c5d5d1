// WebAssembly functions over one memory, written out as bytes: for what JavaScript does several times slower, many bytes at once.

const I32 = 0x7f;
const V128 = 0x7b;
const I64 = 0x7e;
const VALUE_TYPES = { i32: I32, i64: I64, v128: V128 } as const;

export interface KernelFunction {
  /** All of them i32: locals from 0 on. */
  parameters: number;
  /** Whether it gives an i32. */
  hasResult: boolean;
  /** Locals behind the parameters. */
  locals: (keyof typeof VALUE_TYPES)[];
  code: number[];
}

/** Instructions that have no operands behind them. */
export const OP = {
  unreachable: [0x00],
  return: [0x0f],
  end: [0x0b],
  lessUnsigned: [0x49],
  lessSigned: [0x48],
  greaterUnsigned: [0x4b],
  notEqual: [0x47],
  add: [0x6a],
  sub: [0x6b],
  mul: [0x6c],
  and: [0x71],
  or: [0x72],
  xor: [0x73],
  shiftLeft: [0x74],
  shiftRight: [0x76],
  isZero64: [0x50],
  ctz64: [0x7a],
  sub64: [0x7d],
  and64: [0x83],
  or64: [0x84],
  xor64: [0x85],
  shiftLeft64: [0x86],
  shiftRight64: [0x88],
  wrap64: [0xa7],
  extend: [0xad],
  and128: [0xfd, 0x4e],
  or128: [0xfd, 0x50],
  subBytes: [0xfd, 0x71],
  lessUnsignedBytes: [0xfd, 0x26],
  swizzle: [0xfd, 0x0e],
  shiftRightBytes: [0xfd, 0x6d],
  equalBytes: [0xfd, 0x23],
  notEqualBytes: [0xfd, 0x24],
  bitmaskBytes: [0xfd, 0x64],
  load8Signed: [0x2c, 0, 0],
  load32: [0x28, 0, 0],
  load64: [0x29, 0, 0],
  load128: [0xfd, 0x00, 0, 0],
  store16: [0x3b, 0, 0],
  store128: [0xfd, 0x0b, 0, 0],
  store32: [0x36, 0, 0],
} as const;

export const get = (local: number) => [0x20, local];
export const set = (local: number) => [0x21, local];
export const tee = (local: number) => [0x22, local];
export const i32 = (value: number) => [0x41, ...signed(BigInt(value | 0))];
export const i64 = (value: bigint) => [0x42, ...signed(BigInt.asIntN(64, value))];
/** 16 bytes. */
export const v128 = (bytes: number[]) => [0xfd, 0x0c, ...bytes];
export const loop = (...code: number[][]) => [0x03, 0x40, ...code.flat(), ...OP.end];
export const when = (...code: number[][]) => [0x04, 0x40, ...code.flat(), ...OP.end];
/** To the start of the loop that is so many blocks further out. */
export const again = (depth: number) => [0x0c, depth];
export const againIf = (depth: number) => [0x0d, depth];

const section = (id: number, content: number[]) => [id, ...sized(content)];
const sized = (content: number[]) => [...unsigned(content.length), ...content];
const listed = (entries: number[][]) => [...unsigned(entries.length), ...entries.flat()];

/** LEB128. */
function unsigned(n: number): number[] {
  return n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)];
}

function signed(n: bigint): number[] {
  const low = Number(n & 127n);
  return n >= -64n && n < 64n ? [low] : [low | 128, ...signed(n >> 7n)];
}

export interface Memory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

/** What is used of it: its types come with those of a browser. */
interface WebAssemblyOfNode {
  Memory: new (pages: { initial: number }) => Memory;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: { m: { m: Memory } }) => { exports: object };
}

const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyOfNode };

const PAGE_BYTES = 65_536;

export function createMemory(): Memory {
  return new WebAssembly.Memory({ initial: 1 });
}

/** Views of the memory are no longer valid when it had to grow. */
export function growTo(memory: Memory, sizeBytes: number): void {
  const missing = sizeBytes - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE_BYTES));
}

/** The functions, by their names. */
export function instantiate<Functions>(memory: Memory, functions: Record<keyof Functions, KernelFunction>): Functions {
  const named = Object.entries<KernelFunction>(functions);
  const types = named.map(([, { parameters, hasResult }]) => [
    ...[0x60, parameters, ...Array<number>(parameters).fill(I32)],
    ...(hasResult ? [1, I32] : [0]),
  ]);
  const bodies = named.map(([, { locals, code }]) =>
    sized([...listed(locals.map((type) => [1, VALUE_TYPES[type]])), ...code, ...OP.end]),
  );
  const bytes = [
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, listed(types)),
    ...section(2, [1, 1, 0x6d, 1, 0x6d, 0x02, 0, 1]), // import: memory "m" "m" of a page or more
    ...section(3, listed(named.map((_, i) => [i]))),
    ...section(7, listed(named.map(([name], i) => [name.length, ...Buffer.from(name), 0, i]))),
    ...section(10, listed(bodies)),
  ];
  const module = new WebAssembly.Module(Uint8Array.from(bytes));
  return new WebAssembly.Instance(module, { m: { m: memory } }).exports as Functions;
}
