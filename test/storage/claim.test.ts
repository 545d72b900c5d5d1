// Claims: who wins a run, and what a loser may still do.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Checkpoint } from '../../src/contracts/records.ts';
import { type Claimant, type ClaimChoice, type Takeover, takeClaim } from '../../src/storage/claim.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { keys } from '../../src/storage/keys.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { createJson } from '../../src/storage/record.ts';

const LINEAGE = 'a'.repeat(64);
const GOODPUT = { startedMs: 0, atMs: 0, step: 0, productiveSeconds: 0, gpuSeconds: 0, lostSeconds: {} };

describe('claims', () => {
  let store: ObjectStore;
  beforeEach(() => {
    store = createFileStore(mkdtempSync(join(tmpdir(), 'anneal-claims-')));
  });
  const claimant = (attemptScheduledMs: number): Claimant => ({
    run: 'r',
    workflowRunId: 'w',
    attemptScheduledMs,
    host: 'h',
  });
  const newest = async ({ checkpoints }: Takeover): Promise<ClaimChoice> => {
    for await (const { claim, step } of checkpoints)
      return { resumeFrom: { claim, step }, source: 'store', changes: [] };
    return { resumeFrom: null, source: null, changes: [] };
  };
  const commit = (claim: number, step: number) =>
    createJson(store, keys.checkpoint('r', claim, step), {
      run: 'r',
      claim,
      step,
      terminal: false,
      best: null,
      lineage: LINEAGE,
      goodput: GOODPUT,
      files: { digest: LINEAGE, files: [] },
    } satisfies Checkpoint);

  test('the first claim starts afresh, the next resumes from the newest checkpoint', async () => {
    expect(await takeClaim(store, claimant(1), newest)).toMatchObject({ number: 1, resumeFrom: null });
    await commit(1, 10);
    await commit(1, 20);
    expect(await takeClaim(store, claimant(2), newest)).toMatchObject({
      number: 2,
      resumeFrom: { claim: 1, step: 20 },
    });
  });

  test('what a stale attempt commits after it was taken over is never resumed from', async () => {
    await takeClaim(store, claimant(1), newest);
    await commit(1, 10);
    await takeClaim(store, claimant(2), newest);
    await commit(1, 99);
    expect(await takeClaim(store, claimant(3), newest)).toMatchObject({ resumeFrom: { claim: 1, step: 10 } });
    await commit(2, 15);
    await commit(3, 12);
    expect(await takeClaim(store, claimant(4), newest)).toMatchObject({ resumeFrom: { claim: 3, step: 12 } });
  });

  test('a claim that resumed from a checkpoint that never reached the store falls back to the one before', async () => {
    await takeClaim(store, claimant(1), newest);
    await commit(1, 10);
    await takeClaim(store, claimant(2), async () => ({
      resumeFrom: { claim: 1, step: 17 },
      source: 'warm',
      changes: [],
    }));
    expect(await takeClaim(store, claimant(3), newest)).toMatchObject({ resumeFrom: { claim: 1, step: 10 } });
  });

  test('the chain names each claim with the step up to which its states count', async () => {
    await takeClaim(store, claimant(1), newest);
    await commit(1, 10);
    await takeClaim(store, claimant(2), newest);
    await commit(2, 15);
    await takeClaim(store, claimant(3), newest);
    let seen: Takeover['chain'] = [];
    await takeClaim(store, claimant(4), async (takeover) => {
      seen = takeover.chain;
      return newest(takeover);
    });
    expect(seen).toEqual([
      { claim: 3, stepMax: Number.POSITIVE_INFINITY },
      { claim: 2, stepMax: 15 },
      { claim: 1, stepMax: 10 },
    ]);
  });

  test('every claim knows when the run began', async () => {
    const first = await takeClaim(store, claimant(1), newest);
    expect((await takeClaim(store, claimant(2), newest)).runStartedMs).toBe(first.runStartedMs);
  });

  test('an older attempt is fenced by a newer claim', async () => {
    await takeClaim(store, claimant(5), newest);
    await expect(takeClaim(store, claimant(4), newest)).rejects.toMatchObject({ kind: 'fenced' });
  });

  test('racing claimants get different numbers', async () => {
    const claims = await Promise.all(Array.from({ length: 8 }, () => takeClaim(store, claimant(1), newest)));
    expect(new Set(claims.map(({ number }) => number)).size).toBe(8);
  });
});
