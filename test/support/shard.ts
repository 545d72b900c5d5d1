// A training shard of chat rows that are all equally long, with random tokens: for measurements, which need no meaning.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

export interface ShardForm {
  rows: number;
  tokens: number;
  /** Of them with a label, at the end of the row. */
  labels: number;
  /** Tokens are drawn below it. */
  vocabulary: number;
}

export function writeShard(path: string, { rows, tokens, labels, vocabulary }: ShardForm): void {
  const count = rows * tokens;
  const ids = Int32Array.from(
    { length: count },
    (_, i) => 10 + ((i * 7919 + 13 * Math.floor(i / 7)) % (vocabulary - 10)),
  );
  const trainable = Uint8Array.from({ length: count }, (_, i) => (i % tokens >= tokens - labels ? 1 : 0));
  const offsets = BigInt64Array.from({ length: rows + 1 }, (_, i) => BigInt(i * tokens));
  const tensors: [string, string, Uint8Array | Int32Array | BigInt64Array][] = [
    ['offsets', 'I64', offsets],
    ['input_ids', 'I32', ids],
    ['trainable', 'U8', trainable],
  ];
  let at = 0;
  const header = tensors.map(([name, dtype, { length, byteLength }]) => {
    const entry = [name, { dtype, shape: [length], data_offsets: [at, at + byteLength] }];
    at += byteLength;
    return entry;
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  const bodies = tensors.map(([, , { buffer, byteOffset, byteLength }]) => Buffer.from(buffer, byteOffset, byteLength));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, Buffer.concat([size, padded, ...bodies]));
}
