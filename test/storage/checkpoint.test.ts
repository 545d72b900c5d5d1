// Checkpoints in the store: whole or not there, read and forgotten.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AnnealError } from '../../src/contracts/failure.ts';
import { type Checkpoint, CheckpointSchema } from '../../src/contracts/records.ts';
import { createCommitter, fetchCheckpoint } from '../../src/storage/checkpoint.ts';
import { type ChainLink, takeClaim } from '../../src/storage/claim.ts';
import { sha256Hex } from '../../src/storage/digest.ts';
import { keys } from '../../src/storage/keys.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { readJson } from '../../src/storage/record.ts';
import { decideKept } from '../../src/storage/retention.ts';
import { createMemoryStore } from '../support/memory-store.ts';

const GOODPUT = { startedMs: 0, atMs: 0, step: 0, productiveSeconds: 0, gpuSeconds: 0, lostSeconds: {} };
const ALL = Number.POSITIVE_INFINITY;

describe('committer', () => {
  let folder: string;
  let store: ObjectStore;
  let refused: string[];
  let outages: { sinceMs: number; why: string }[];
  const stop = new AbortController();

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'anneal-commit-'));
    store = createMemoryStore();
    refused = [];
    outages = [];
    await claim(1);
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const claim = (attemptScheduledMs: number) =>
    takeClaim(store, { run: 'r', workflowRunId: 'w', attemptScheduledMs, host: 'h' }, async () => ({
      resumeFrom: null,
      source: null,
      changes: [],
    }));

  function save(step: number, text = `state ${step}`, sealedText = text) {
    const path = join(folder, `checkpoint-${step}`);
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, 'state'), text);
    writeFileSync(join(path, 'same'), 'the same in all');
    const files = {
      state: { size: sealedText.length, sha256: sha256Hex(sealedText) },
      same: { size: 15, sha256: sha256Hex('the same in all') },
    };
    writeFileSync(join(path, 'manifest.json'), JSON.stringify({ v: 1, step, terminal: false, best: null, files }));
    return { path, step, terminal: false, best: null };
  }

  const committer = (over: ObjectStore = store, keep = 2, chain: ChainLink[] = [{ claim: 1, stepMax: ALL }]) =>
    createCommitter({
      store: over,
      identity: { run: 'r', claim: 1, lineage: 'a'.repeat(64) },
      retention: { chain, keep },
      signal: stop.signal,
      onRefused: (message) => refused.push(message),
      onBack: (sinceMs, why) => outages.push({ sinceMs, why }),
    });
  const read = async (step: number) => await readJson(store, keys.checkpoint('r', 1, step), CheckpointSchema);

  test('keeps the newest, deletes manifests first and then the parts that nobody names', async () => {
    const commits = committer();
    for (const step of [1, 2, 3, 4]) {
      commits.offer(save(step), { goodput: GOODPUT });
      await commits.drain();
    }
    expect(await Promise.all([1, 2, 3, 4].map(read)).then((all) => all.map((its) => its?.step ?? null))).toEqual([
      ...[null, null, 3, 4],
    ]);
    const kept = (await Promise.all([3, 4].map(read))) as Checkpoint[];
    const named = new Set(kept.flatMap(({ files }) => files.files.flatMap(({ parts }) => parts)));
    expect((await store.list(keys.parts('r', 1))).length).toBe(named.size);
    await fetchCheckpoint(store, kept[0] as Checkpoint, join(folder, 'back'), stop.signal);
  });

  test('a folder that is no longer what its manifest says is not committed', async () => {
    const commits = committer();
    commits.offer(save(1, 'state 1', 'state I'), { goodput: GOODPUT });
    await commits.drain();
    expect(await read(1)).toBeNull();
    expect(refused[0]).toContain('state is not what its manifest says');
  });

  test('a folder that was rotated away is left', async () => {
    const commits = committer();
    commits.offer({ ...save(1), path: join(folder, 'gone') }, { goodput: GOODPUT });
    await commits.drain();
    expect(commits.committedStep()).toBeNull();
  });

  test('while the store is away only the newest waits, and the reason is known', async () => {
    let away = true;
    const flaky: ObjectStore = {
      ...store,
      list: async (prefix) => {
        if (away) throw new AnnealError('store_unavailable', 'The store is away.');
        return await store.list(prefix);
      },
    };
    const commits = committer(flaky);
    commits.offer(save(1), { goodput: GOODPUT });
    await expect.poll(() => commits.waitingFor()).toBe('The store is away.');
    commits.offer(save(2), { goodput: GOODPUT });
    commits.offer(save(3), { goodput: GOODPUT });
    away = false;
    expect(outages).toEqual([]);
    await commits.drain();
    expect([await read(2), commits.committedStep(), commits.waitingFor()]).toEqual([null, 3, null]);
    expect(outages).toEqual([{ sinceMs: expect.any(Number), why: 'The store is away.' }]);
  });

  test('in a hurry a newer save cuts the commit of an older one short', async () => {
    const slow: ObjectStore = {
      ...store,
      list: async (prefix) => {
        if (commits.committedStep() === null && !hurried)
          throw new AnnealError('store_unavailable', 'The store is away.');
        return await store.list(prefix);
      },
    };
    let hurried = false;
    const commits = committer(slow);
    commits.offer(save(1), { goodput: GOODPUT });
    await expect.poll(() => commits.waitingFor()).not.toBeNull();
    commits.offer(save(2), { goodput: GOODPUT });
    hurried = true;
    commits.hurry();
    await commits.drain();
    expect([(await read(1))?.step, (await read(2))?.step]).toEqual([undefined, 2]);
  });

  test('an attempt that was taken over commits nothing more', async () => {
    await claim(2);
    const commits = committer();
    commits.offer(save(1), { goodput: GOODPUT });
    await expect(commits.drain()).rejects.toMatchObject({ kind: 'fenced' });
    expect(await read(1)).toBeNull();
  });

  test('a store that refuses to delete costs space, not commits', async () => {
    const forbidden: ObjectStore = {
      ...store,
      delete: async () => {
        throw new AnnealError('store_unavailable', 'Deleting is forbidden.');
      },
    };
    const commits = committer(forbidden);
    for (const step of [1, 2, 3, 4]) {
      commits.offer(save(step), { goodput: GOODPUT });
      await commits.drain();
    }
    expect(commits.committedStep()).toBe(4);
  });
});

describe('what is kept', () => {
  const committed = [
    ...[50, 40, 30, 20].map((step) => ({ claim: 3, step })),
    ...[15, 12, 10].map((step) => ({ claim: 1, step })),
  ];
  const chain = [
    { claim: 3, stepMax: ALL },
    { claim: 1, stepMax: 15 },
  ];
  const steps = (keep: number, bestStep: number | null) =>
    decideKept(committed, { chain, keep, bestStep }).map(({ step }) => step);

  test.each([
    ['the newest and the one that the claim resumed from', 3, null, [50, 40, 30, 15]],
    ['the best one too', 2, 12, [50, 40, 15, 12]],
    ['two at least', 1, null, [50, 40, 15]],
  ] as [string, number, number | null, number[]][])('%s', (_name, keep, bestStep, expected) => {
    expect(steps(keep, bestStep)).toEqual(expected);
  });
});
