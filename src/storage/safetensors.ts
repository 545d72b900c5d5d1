// Headers of safetensors files, and single tensors of whole numbers: a length, JSON, then the bytes.
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import { shardsOf } from '../contracts/shards.ts';

interface Tensor {
  dtype: string;
  shape: number[];
  /** From the end of the header, bytes. */
  data_offsets: [number, number];
}

export interface Header {
  tensors: Record<string, Tensor>;
  /** Where the tensors begin, bytes. */
  start: number;
}

/** safetensors' own limit for a header, bytes. */
const HEADER_BYTES_MAX = 100_000_000;
/** The header's length comes before it, bytes. */
const LENGTH_BYTES = 8;

/** @throws AnnealError `bad_request` when it is no safetensors file. */
export async function readHeader(path: string): Promise<Header> {
  try {
    const bytes = Number((await readRange(path, 0, LENGTH_BYTES)).readBigUInt64LE());
    if (bytes === 0 || bytes > HEADER_BYTES_MAX) throw new RangeError('no header');
    const text = (await readRange(path, LENGTH_BYTES, bytes)).toString('utf8');
    const { __metadata__: _metadata, ...tensors } = JSON.parse(text) as Header['tensors'];
    return { tensors, start: LENGTH_BYTES + bytes };
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error;
    throw new AnnealError('bad_request', `${path} has no safetensors header; make or download it again.`);
  }
}

/** The tensors that say where each row's tokens end; a row's length is that of its prompt and its longest answer. */
const ENDS = {
  rows: ['offsets'],
  prompts: ['prompt_offsets'],
  answers: ['chosen_offsets', 'rejected_offsets', 'completion_offsets'],
};

/** Tokens of each row of a split, over all its shards in the folder, without reading the tokens. */
export async function readSplitLengths(folder: string, split: string): Promise<number[]> {
  const lengths: number[][] = [];
  for (const file of shardsOf(await readdir(folder), split, 'safetensors')) {
    lengths.push(await readLengths(join(folder, file)));
  }
  return lengths.flat();
}

async function readLengths(path: string): Promise<number[]> {
  const { tensors } = await readHeader(path);
  const lengthsOf = async (names: string[]) => {
    const found = await Promise.all(names.filter((name) => name in tensors).map((name) => readIntegers(path, name)));
    const each = found.map((ends) => ends.slice(1).map((end, i) => end - (ends[i] as number)));
    return (each[0] ?? []).map((length, i) => Math.max(length, each[1]?.[i] ?? 0));
  };
  if ('offsets' in tensors) return await lengthsOf(ENDS.rows);
  const [prompts, answers] = [await lengthsOf(ENDS.prompts), await lengthsOf(ENDS.answers)];
  return prompts.map((length, i) => length + (answers[i] ?? 0));
}

/** Of a SHA-256. */
const DIGEST_BYTES = 32;

/** Digests of the images that the rows of a shard show, each once; none where its model reads text alone. */
export async function readImageDigests(path: string): Promise<string[]> {
  const { tensors, start } = await readHeader(path);
  const [from, to] = tensors.media?.data_offsets ?? [0, 0];
  const bytes = await readRange(path, start + from, to - from);
  const digests = Array.from({ length: bytes.length / DIGEST_BYTES }, (_, i) =>
    bytes.toString('hex', DIGEST_BYTES * i, DIGEST_BYTES * (i + 1)),
  );
  return [...new Set(digests)];
}

/** A one-dimensional tensor of 64-bit integers. */
export async function readIntegers(path: string, name: string): Promise<number[]> {
  const { tensors, start } = await readHeader(path);
  const tensor = tensors[name];
  if (tensor?.dtype !== 'I64')
    throw new AnnealError('bad_request', `${path} has no tensor ${name} of 64-bit integers.`);
  const [from, to] = tensor.data_offsets;
  const bytes = await readRange(path, start + from, to - from);
  return Array.from({ length: bytes.length / 8 }, (_, i) => Number(bytes.readBigInt64LE(8 * i)));
}

async function readRange(path: string, position: number, length: number): Promise<Buffer> {
  const file = await open(path);
  const bytes = Buffer.alloc(length);
  const { bytesRead } = await file.read(bytes, 0, length, position).finally(() => file.close());
  return bytes.subarray(0, bytesRead);
}
