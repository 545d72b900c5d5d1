// Decides which rows are nearly the same: those that share a band are compared, and what is similar enough becomes one cluster.
// The result depends on the sketches, their order and the ranks alone. Memory: `KEYS_MAX` keys at a time and 4 bytes a row.
import { readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BANDS, BINS, similarity } from './sketch.ts';
import { mix } from './words.ts';

/** Band keys that are sorted at a time, 8 bytes each; more rows are taken in several parts. */
const KEYS_MAX = 4_000_000;

/** Rows that are compared with each other row of the same key; only templates filled in by the thousand have more. */
const COMPARED_MAX = 8;

const ROWS_READ = 8192;
const BAND_BYTES = BINS / BANDS;

/** Of a row that takes no part, because it is dropped already. */
export const NO_PART = 255;

export interface ClusterOptions {
  threshold: number;
  /** By row: of a cluster the row of the least rank stands for all, of equal ranks the first; absent = all have the same. */
  ranks?: Uint8Array;
  signal?: AbortSignal;
  /** For tests; otherwise `KEYS_MAX`. */
  keysMax?: number;
}

/**
 * Reads the sketches of all rows, one after the other in the order of the sources, from one file.
 * Gives for each row the row that stands for its cluster: itself when it stays.
 */
export async function clusterNear(path: string, options: ClusterOptions): Promise<Uint32Array> {
  const file = await open(path);
  try {
    const rows = Math.floor((await file.stat()).size / BINS);
    const clusters = createClusters(file.fd, rows, options);
    for (const pass of passesOver(rows, options.keysMax ?? KEYS_MAX)) {
      for (const keys of await collectKeys(file, rows, pass, options)) {
        options.signal?.throwIfAborted();
        clusters.join(keys.sort());
        await nextTurn();
      }
    }
    return clusters.leaders();
  } finally {
    await file.close();
  }
}

/** Some bands of all rows, or one band of the rows whose key falls into one of several parts. */
interface Pass {
  firstBand: number;
  bands: number;
  part: number;
  parts: number;
}

function passesOver(rows: number, keysMax: number): Pass[] {
  const parts = Math.max(1, Math.ceil(rows / keysMax));
  const bands = Math.max(1, Math.min(BANDS, Math.floor(keysMax / Math.max(1, rows))));
  return Array.from({ length: Math.ceil(BANDS / bands) }, (_, i) => i * bands).flatMap((firstBand) =>
    Array.from({ length: parts }, (_, part) => ({ firstBand, bands: Math.min(bands, BANDS - firstBand), part, parts })),
  );
}

/** By band: 32 bits of the key, then 32 bits of the row. Different bands of one key only cost a comparison. */
async function collectKeys(
  file: FileHandle,
  rows: number,
  pass: Pass,
  { ranks }: ClusterOptions,
): Promise<BigUint64Array[]> {
  const lists = Array.from({ length: pass.bands }, () => createKeyList(Math.ceil((rows / pass.parts) * 1.05) + 1));
  const buffer = new Int32Array((ROWS_READ * BINS) / 4);
  for (let first = 0; first < rows; first += ROWS_READ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, first * BINS);
    for (let i = 0; i < Math.floor(bytesRead / BINS); i++) {
      if (ranks?.[first + i] === NO_PART) continue;
      for (const [b, list] of lists.entries()) {
        const at = (i * BINS + (pass.firstBand + b) * BAND_BYTES) / 4;
        const key = mix((buffer[at] as number) ^ mix(buffer[at + 1] as number)) >>> 0;
        if (key % pass.parts === pass.part) list.add(key, first + i);
      }
    }
  }
  return lists.map((list) => list.keys());
}

interface KeyList {
  add(key: number, row: number): void;
  keys(): BigUint64Array;
}

function createKeyList(expected: number): KeyList {
  let halves = new Uint32Array(2 * expected);
  let length = 0;
  return {
    add(key, row) {
      if (length === halves.length) {
        const larger = new Uint32Array(2 * halves.length);
        larger.set(halves);
        halves = larger;
      }
      // Little endian: the row is the lower half.
      halves[length++] = row;
      halves[length++] = key;
    },
    keys: () => new BigUint64Array(halves.buffer, 0, length / 2),
  };
}

interface Clusters {
  /** Joins similar rows among those of equal keys; the keys are sorted. */
  join(keys: BigUint64Array): void;
  leaders(): Uint32Array;
}

/** A forest in which each row points to one that stands for it. */
function createClusters(fd: number, rows: number, { threshold, ranks }: ClusterOptions): Clusters {
  const leaders = Uint32Array.from({ length: rows }, (_, row) => row);
  const find = (row: number): number => {
    let at = row;
    while (leaders[at] !== at) {
      // Halves the path for the next time.
      leaders[at] = leaders[leaders[at] as number] as number;
      at = leaders[at] as number;
    }
    return at;
  };
  const comesFirst = (a: number, b: number): boolean => {
    const byRank = (ranks?.[a] ?? 0) - (ranks?.[b] ?? 0);
    return byRank === 0 ? a < b : byRank < 0;
  };
  const unite = (a: number, b: number): void => {
    const [first, second] = comesFirst(a, b) ? [a, b] : [b, a];
    leaders[second] = first;
  };
  const joinGroup = (members: Uint32Array): void => {
    const compared: { row: number; signature: Uint8Array }[] = [];
    for (let i = 0; i < members.length; i += 2) {
      const row = members[i] as number;
      const root = find(row);
      if (compared.some((other) => find(other.row) === root)) continue;
      const signature = readSignature(fd, row);
      const alike = compared.filter((other) => similarity(signature, other.signature) >= threshold);
      for (const other of alike) unite(find(row), find(other.row));
      if (alike.length === 0 && compared.length < COMPARED_MAX) compared.push({ row, signature });
    }
  };
  return {
    join(keys) {
      const halves = new Uint32Array(keys.buffer, keys.byteOffset, 2 * keys.length);
      for (let from = 0, to = 0; from < keys.length; from = to) {
        for (to = from + 1; to < keys.length && halves[2 * to + 1] === halves[2 * from + 1]; ) to++;
        if (to - from > 1) joinGroup(halves.subarray(2 * from, 2 * to));
      }
    },
    leaders: () => leaders.map((_, row) => find(row)),
  };
}

function readSignature(fd: number, row: number): Uint8Array {
  const signature = new Uint8Array(BINS);
  readSync(fd, signature, 0, BINS, row * BINS);
  return signature;
}
