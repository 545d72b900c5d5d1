// Lengths of rows without their tokens, and how rows share a row when they are packed.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { packedRows, packingEstimate } from '../../src/plan/packing.ts';
import { readSplitLengths } from '../../src/storage/safetensors.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'anneal-lengths-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A safetensors file of 64-bit integers. */
function writeIntegers(name: string, tensors: Record<string, number[]>): void {
  const header: Record<string, object> = {};
  let at = 0;
  for (const [key, values] of Object.entries(tensors)) {
    header[key] = { dtype: 'I64', shape: [values.length], data_offsets: [at, at + 8 * values.length] };
    at += 8 * values.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const bytes = Buffer.from(BigInt64Array.from(Object.values(tensors).flat(), BigInt).buffer);
  writeFileSync(join(folder, name), Buffer.concat([length, text, bytes]));
}

describe('lengths of a split', () => {
  test('come from all its shards in order, empty ones too', async () => {
    writeIntegers('train-00001-of-00003.safetensors', { offsets: [0] });
    writeIntegers('train-00002-of-00003.safetensors', { offsets: [0, 4] });
    writeIntegers('train-00000-of-00003.safetensors', { offsets: [0, 3, 10] });
    writeIntegers('test.safetensors', { offsets: [0, 99] });
    expect(await readSplitLengths(folder, 'train')).toEqual([3, 7, 4]);
    expect(await readSplitLengths(folder, 'validation')).toEqual([]);
  });

  test('are those of the prompt and the longest answer', async () => {
    const answers = { chosen_offsets: [0, 5, 6], rejected_offsets: [0, 2, 9] };
    writeIntegers('train.safetensors', { prompt_offsets: [0, 10, 30], ...answers });
    writeIntegers('test.safetensors', { prompt_offsets: [0, 10], completion_offsets: [0, 4] });
    expect(await readSplitLengths(folder, 'train')).toEqual([15, 27]);
    expect(await readSplitLengths(folder, 'test')).toEqual([14]);
  });
});

describe('packing', () => {
  test('tells how full the rows are', () => {
    expect(packingEstimate([10, 6, 5, 5, 4, 3, 1])).toEqual({ rows: 4, room: 10, fill: 34 / 40 });
    expect(packingEstimate([])).toEqual({ rows: 0, room: 0, fill: 0 });
  });

  test('rows more than a thousand apart do not meet, as in TRL', () => {
    const halves = [10, ...new Array<number>(1000).fill(5)];
    expect(packedRows(halves)).toBe(1 + 500 + 1);
    expect(packedRows(halves.slice(0, 1000))).toBe(1 + 500);
  });
});
