// Checkpoints whose files lie on two hosts: whole in the store or not there, whatever one of the hosts does.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { AnnealError } from '../../src/contracts/failure.ts';
import { CheckpointSchema } from '../../src/contracts/records.ts';
import { type Committer, createCommitter, fetchCheckpoint } from '../../src/storage/checkpoint.ts';
import { takeClaim } from '../../src/storage/claim.ts';
import { sha256Hex } from '../../src/storage/digest.ts';
import { fileSetOf } from '../../src/storage/file-set.ts';
import { keys } from '../../src/storage/keys.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { readJson } from '../../src/storage/record.ts';
import { createShareGiver, filesFor, type ShareGiver } from '../../src/storage/shares.ts';
import { createMemoryStore } from '../support/memory-store.ts';

const GOODPUT = { startedMs: 0, atMs: 0, step: 0, productiveSeconds: 0, gpuSeconds: 0, lostSeconds: {} };
const HOSTS = ['first', 'second'];

describe('a checkpoint of two hosts', () => {
  let folder: string;
  let store: ObjectStore;
  let refused: string[];
  let broken: unknown[];
  let stop: AbortController;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'anneal-shares-'));
    store = createMemoryStore();
    refused = [];
    broken = [];
    stop = new AbortController();
    await claim(1);
  });
  afterEach(() => {
    stop.abort();
    rmSync(folder, { recursive: true, force: true });
  });

  const claim = (attemptScheduledMs: number) =>
    takeClaim(store, { run: 'r', workflowRunId: 'w', attemptScheduledMs, host: 'h' }, async () => ({
      resumeFrom: null,
      source: null,
      changes: [],
    }));

  const textOf = (host: number, step: number) => `state of rank ${host} at ${step}`;

  /** What the first rank of a host seals. */
  function save(host: number, step: number, text = textOf(host, step)) {
    const path = join(folder, `host-${host}`, `checkpoint-${step}`);
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, `rank-${host}.safetensors`), text);
    writeFileSync(join(path, 'state.json'), '{}');
    const parts = [0, 1].map((rank) => [`rank-${rank}.safetensors`, textOf(rank, step)]);
    const files = Object.fromEntries(
      [...parts, ['state.json', '{}']].map(([name, its]) => [
        name,
        { size: its?.length, sha256: sha256Hex(its as string) },
      ]),
    );
    writeFileSync(join(path, 'manifest.json'), JSON.stringify({ v: 1, step, terminal: false, best: null, files }));
    return { path, step, terminal: false, best: null };
  }

  const committer = (isGone?: () => Promise<boolean>): Committer =>
    createCommitter({
      store,
      identity: { run: 'r', claim: 1, lineage: 'a'.repeat(64) },
      retention: { chain: [{ claim: 1, stepMax: Number.POSITIVE_INFINITY }], keep: 2 },
      hosts: { names: HOSTS, isGone },
      signal: stop.signal,
      onRefused: (message) => refused.push(message),
    });
  const giver = (over: ObjectStore = store): ShareGiver =>
    createShareGiver({
      store: over,
      identity: { run: 'r', claim: 1 },
      host: 1,
      signal: stop.signal,
      onBroken: (error) => broken.push(error),
    });
  const read = async (step: number) => await readJson(store, keys.checkpoint('r', 1, step), CheckpointSchema);

  test('is committed when both have stored their files; older ones and what was said go', async () => {
    const [commits, shares] = [committer(), giver()];
    for (const step of [1, 2, 3]) {
      commits.offer(save(0, step), { goodput: GOODPUT });
      shares.offer(save(1, step));
      await Promise.all([commits.drain(), shares.drain()]);
    }
    expect([await read(1), (await read(2))?.step]).toEqual([null, 2]);
    const checkpoint = await read(3);
    expect(checkpoint?.files.files.map(({ path }) => path)).toEqual([
      ...['manifest.json', 'rank-0.safetensors', 'rank-1.safetensors', 'state.json'],
    ]);
    expect(await store.list(keys.allShares('r'))).toEqual([]);
    await fetchCheckpoint(store, checkpoint as NonNullable<typeof checkpoint>, join(folder, 'back'), stop.signal);
  });

  test('is not there while one has not; the first goes on to a newer one that both have', async () => {
    const [commits, shares] = [committer(), giver()];
    commits.offer(save(0, 1), { goodput: GOODPUT });
    await expect.poll(() => store.list(keys.allShares('r'))).toHaveLength(1);
    expect(await read(1)).toBeNull();
    commits.offer(save(0, 2), { goodput: GOODPUT });
    commits.hurry();
    await expect.poll(() => store.list(keys.shareWanted('r', 1, 2))).toHaveLength(1);
    shares.offer(save(1, 1));
    shares.offer(save(1, 2));
    await Promise.all([commits.drain(), shares.drain()]);
    expect([await read(1), (await read(2))?.step]).toEqual([null, 2]);
  });

  test('is not waited for when the other host is gone, unless to store its part was its last deed', async () => {
    const isGone = vi.fn(async () => true);
    const commits = committer(isGone);
    commits.offer(save(0, 1), { goodput: GOODPUT });
    await commits.drain();
    expect([isGone.mock.calls, await read(1)]).toEqual([[[1]], null]);
    const shares = giver();
    isGone.mockImplementation(async () => {
      shares.offer(save(1, 2));
      await shares.drain();
      return true;
    });
    commits.offer(save(0, 2), { goodput: GOODPUT });
    await commits.drain();
    expect((await read(2))?.step).toBe(2);
  });

  test('whose part was damaged or rotated away on one host is left', async () => {
    const [commits, shares] = [committer(), giver()];
    commits.offer(save(0, 1), { goodput: GOODPUT });
    shares.offer(save(1, 1, 'state of rank l at 1'));
    await Promise.all([commits.drain(), shares.drain()]);
    expect(refused).toEqual([
      expect.stringMatching(/^Host second: .*rank-1.safetensors is not what its manifest says/),
    ]);
    commits.offer(save(0, 2), { goodput: GOODPUT });
    shares.offer({ ...save(1, 2), path: join(folder, 'gone') });
    await Promise.all([commits.drain(), shares.drain()]);
    expect([commits.committedStep(), refused.length]).toEqual([null, 1]);
    commits.offer(save(0, 3), { goodput: GOODPUT });
    shares.offer(save(1, 3));
    await Promise.all([commits.drain(), shares.drain()]);
    expect(commits.committedStep()).toBe(3);
  });

  test('waits for a host whose store is away', async () => {
    let away = true;
    const flaky: ObjectStore = {
      ...store,
      put: async (...given) => {
        if (away) throw new AnnealError('store_unavailable', 'The store is away.');
        await store.put(...given);
      },
    };
    const [commits, shares] = [committer(), giver(flaky)];
    commits.offer(save(0, 1), { goodput: GOODPUT });
    shares.offer(save(1, 1));
    await expect.poll(() => store.list(keys.allShares('r'))).toHaveLength(1);
    away = false;
    await Promise.all([commits.drain(), shares.drain()]);
    expect(commits.committedStep()).toBe(1);
  });

  test('whose first host is gone is not waited for at the end', async () => {
    const shares = giver();
    shares.offer(save(1, 1));
    vi.useFakeTimers({ toFake: ['Date'] });
    shares.hurry();
    vi.setSystemTime(Date.now() + 11_000);
    await shares.drain().finally(() => vi.useRealTimers());
    expect(await store.list(keys.parts('r', 1))).toEqual([]);
  });

  test('a host whose gang was taken over stores nothing more', async () => {
    const shares = giver();
    await store.putIfAbsent(keys.shareWanted('r', 1, 1), Buffer.from('{}'));
    await claim(2);
    shares.offer(save(1, 1));
    await expect(shares.drain()).rejects.toMatchObject({ kind: 'fenced' });
    expect([broken, await store.list(keys.parts('r', 1))]).toEqual([[expect.objectContaining({ kind: 'fenced' })], []]);
  });
});

test('a host reads its own ranks’ parts where there is one for each rank, and all where they are cut anew', () => {
  const paths = ['manifest.json', 'rank-0.safetensors', 'rank-1.safetensors', 'rank-10.safetensors', 'state.json'];
  const set = fileSetOf(paths.map((path) => ({ path, size: 1, sha256: 'a'.repeat(64), parts: [] })));
  const read = (ranks: Parameters<typeof filesFor>[1]) => filesFor(set, ranks).files.map(({ path }) => path);
  expect(read({ first: 1, count: 1, of: 3 })).toEqual(['manifest.json', 'rank-1.safetensors', 'state.json']);
  expect(read({ first: 0, count: 2, of: 2 })).toEqual(paths);
  expect(read(null)).toEqual(paths);
});
