// What every driver of the object store must do; run by each driver's own test file.
import { randomBytes, randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { sha256Hex } from '../../src/storage/digest.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { probeStore } from '../../src/storage/open-store.ts';

/** @param open two handles on the same store, as two processes would have. */
export function describeObjectStore(open: () => { first: ObjectStore; second: ObjectStore }): void {
  const key = () => `conformance/${randomUUID()}`;
  const body = (text: string) => Buffer.from(text);

  test('exactly one of many racing writers creates a key, and its bytes are the ones that stay', async () => {
    const { first, second } = open();
    // SeaweedFS lets losers wait for a lock, with pauses of one to two seconds.
    for (let round = 0; round < 2; round++) {
      const k = key();
      const bodies = Array.from({ length: 16 }, (_, i) => body(`writer ${i}`));
      const outcomes = await Promise.all(bodies.map((b, i) => (i % 2 ? first : second).putIfAbsent(k, b)));
      const winners = outcomes.flatMap((outcome, i) => (outcome === 'created' ? [i] : []));
      expect(winners).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome === 'exists')).toHaveLength(15);
      expect(Buffer.from((await first.get(k)) as Uint8Array)).toEqual(bodies[winners[0] as number]);
    }
  });

  test('a repeated create of the same bytes is `mine`, of other bytes `exists`, and nothing changes', async () => {
    const { first } = open();
    const k = key();
    expect(await first.putIfAbsent(k, body('a'))).toBe('created');
    expect(await first.putIfAbsent(k, body('a'))).toBe('mine');
    expect(await first.putIfAbsent(k, body('b'))).toBe('exists');
    expect(Buffer.from((await first.get(k)) as Uint8Array).toString()).toBe('a');
  });

  test('a missing key is null to get and head, and deleting it is no error', async () => {
    const { first } = open();
    const k = key();
    expect(await first.get(k)).toBeNull();
    expect(await first.head(k)).toBeNull();
    await first.delete(k);
  });

  test('put overwrites, head tells the size, delete removes', async () => {
    const { first, second } = open();
    const k = key();
    await first.put(k, body('one'));
    await first.put(k, body('three'));
    expect(await second.head(k)).toEqual({ sizeBytes: 5 });
    await first.delete(k);
    expect(await second.get(k)).toBeNull();
  });

  test('megabytes come back as they went in', async () => {
    const { first } = open();
    const k = key();
    const bytes = randomBytes(3_000_001);
    await first.put(k, bytes, sha256Hex(bytes));
    expect(sha256Hex((await first.get(k)) as Uint8Array)).toBe(sha256Hex(bytes));
  });

  test('an object is read into memory that has room for it, and beside memory that has not', async () => {
    const { first } = open();
    const k = key();
    await first.put(k, body('three'));
    const memory = Buffer.alloc(8);
    const read = (await first.get(k, memory)) as Uint8Array;
    expect(Buffer.from(read).toString()).toBe('three');
    expect(read.buffer).toBe(memory.buffer);
    expect(memory.toString('latin1', 5)).toBe('\0\0\0');
    expect(Buffer.from((await first.get(k, Buffer.alloc(4))) as Uint8Array).toString()).toBe('three');
    expect(await first.get(key(), memory)).toBeNull();
  });

  test('list finds keys at every depth below a prefix, a prefix that cuts a name, and a key that is a folder of another', async () => {
    const { first } = open();
    const root = key();
    const wanted = [
      `${root}/a`,
      `${root}/a/b`,
      `${root}/a-b`,
      `${root}/claims/00000001.json`,
      `${root}/claims/00000001/x.json`,
    ];
    for (const k of wanted) await first.putIfAbsent(k, body(k));
    expect(await first.list(`${root}/`)).toEqual([...wanted].sort());
    expect(await first.list(`${root}/claims/0000`)).toEqual(wanted.slice(3));
    expect(await first.list(`${root}/none/`)).toEqual([]);
  });

  test('the start-up probe accepts it', async () => {
    await probeStore(open().first);
  });
}

/** What a driver must do besides when a wire lies between it and its store. */
export function describeRemoteStore(open: () => ObjectStore): void {
  test('bytes that do not have the digest they are sent with are refused and not visible', async () => {
    const store = open();
    const key = `conformance/${randomUUID()}`;
    await expect(store.put(key, Buffer.from('a'), sha256Hex('b'))).rejects.toMatchObject({ kind: 'store_unavailable' });
    expect(await store.get(key)).toBeNull();
  });
}
