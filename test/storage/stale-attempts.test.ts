// Attempts of one run that are suspended anywhere for any time, taken over, and go on: whatever they still write, nobody reads it.
// Time is simulated: every call to the store waits until a seeded draw lets it go on.
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { AnnealError } from '../../src/contracts/failure.ts';
import { type Claim, ClaimSchema } from '../../src/contracts/records.ts';
import { seededRandom } from '../../src/evaluation/seeded-random.ts';
import { createCommitter } from '../../src/storage/checkpoint.ts';
import { type Takeover, takeClaim } from '../../src/storage/claim.ts';
import { sha256Hex } from '../../src/storage/digest.ts';
import { keyNumber, keys } from '../../src/storage/keys.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { readJson } from '../../src/storage/record.ts';
import { createMemoryStore } from '../support/memory-store.ts';

/** Each takes 3 ms; the measurement in `bench` wants ten thousand. */
const ROUNDS = Number(process.env.ANNEAL_ROUNDS ?? 2_000);
/** Attempts of a run, in the order in which the server scheduled them. */
const ATTEMPTS = 3;
/** Checkpoints that each would make if nobody stopped it. */
const SAVES = 2;
const RUN = 'r';
const GOODPUT = { startedMs: 0, atMs: 0, step: 0, productiveSeconds: 0, gpuSeconds: 0, lostSeconds: {} };

const folder = mkdtempSync(join(tmpdir(), 'anneal-stale-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** How likely it is, at each call, that the attempt that runs is suspended and another goes on. */
const SUSPEND = 0.1;

/** One attempt runs at a time, for a while; the others are suspended in the middle of whatever they do. */
function createScheduler(random: () => number) {
  const waiting: { attempt: number; go: () => void }[] = [];
  let alive: number[] = [];
  let running = 1;
  const waits = (attempt: number) => waiting.some((its) => its.attempt === attempt);
  return {
    turn: (attempt: number) => new Promise<void>((go) => void waiting.push({ attempt, go })),
    ended: (attempt: number) => {
      alive = alive.filter((its) => its !== attempt);
    },
    async run(attempts: number[]) {
      alive = attempts;
      while (alive.length > 0) {
        // Whatever an attempt can do without the store, it has done when it waits for the store.
        await new Promise((resolve) => setImmediate(resolve));
        if (!alive.every(waits)) continue;
        if (random() < SUSPEND || !waits(running)) running = alive[Math.floor(random() * alive.length)] as number;
        const next = waiting.findIndex(({ attempt }) => attempt === running);
        waiting.splice(next, 1)[0]?.go();
      }
    },
  };
}

function withTurns(store: ObjectStore, turn: () => Promise<void>): ObjectStore {
  const after =
    <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
    async (...args: A) => {
      await turn();
      return await call(...args);
    };
  return {
    ...store,
    putIfAbsent: after(store.putIfAbsent),
    put: after(store.put),
    get: after(store.get),
    head: after(store.head),
    list: after(store.list),
    delete: after(store.delete),
  };
}

/** A sealed checkpoint folder, the same for every attempt that reaches the step. */
function sealedFolder(step: number): string {
  const path = join(folder, `checkpoint-${step}`);
  if (existsSync(path)) return path;
  const text = `state ${step}`;
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, 'state'), text);
  const files = { state: { size: text.length, sha256: sha256Hex(text) } };
  writeFileSync(join(path, 'manifest.json'), JSON.stringify({ v: 1, step, terminal: false, best: null, files }));
  return path;
}

interface Read {
  by: number;
  claim: number;
  step: number;
}

/** One run. Returns what was resumed from, and what was committed by an attempt that had been taken over. */
async function playRound(seed: number) {
  const random = seededRandom(seed);
  const scheduler = createScheduler(random);
  const truth = createMemoryStore();
  const reads: Read[] = [];
  const stale = new Set<string>();
  let newestClaim = 0;
  let fenced = 0;

  // Watches the store itself, at the moment at which a write takes effect.
  const watched: ObjectStore = {
    ...truth,
    async putIfAbsent(key, body) {
      const outcome = await truth.putIfAbsent(key, body);
      const checkpoint = /claims\/(\d+)\/checkpoints\/(\d+)\.json$/.exec(key);
      if (outcome !== 'created') return outcome;
      if (checkpoint && Number(checkpoint[1]) < newestClaim)
        stale.add(`${Number(checkpoint[1])}/${Number(checkpoint[2])}`);
      if (!checkpoint && key.startsWith(keys.claims(RUN))) newestClaim = Math.max(newestClaim, keyNumber(key) ?? 0);
      return outcome;
    },
  };

  const attempt = async (scheduled: number) => {
    const turn = () => scheduler.turn(scheduled);
    const store = withTurns(watched, turn);
    // The server starts an attempt while the one before it may still be anywhere.
    await turn();
    const uploads = new AbortController();
    try {
      const claim = await takeClaim(
        store,
        { run: RUN, workflowRunId: 'w', attemptScheduledMs: scheduled, host: 'h' },
        newest,
      );
      if (claim.resumeFrom !== null) reads.push({ by: claim.number, ...claim.resumeFrom });
      await commitSteps(store, claim, uploads.signal);
    } catch (error) {
      if (!(error instanceof AnnealError) || error.kind !== 'fenced') throw error;
      fenced++;
    } finally {
      scheduler.ended(scheduled);
    }
  };

  const commitSteps = async (store: ObjectStore, claim: Claim, signal: AbortSignal) => {
    const own = { claim: claim.number, stepMax: Number.POSITIVE_INFINITY };
    const committer = createCommitter({
      store,
      identity: { run: RUN, claim: claim.number, lineage: 'a'.repeat(64) },
      retention: { chain: [own], keep: 1 },
      signal,
    });
    const from = claim.resumeFrom?.step ?? 0;
    for (let step = from + 1; step <= from + SAVES; step++) {
      committer.offer({ path: sealedFolder(step), step, terminal: false, best: null }, { goodput: GOODPUT });
      await committer.drain();
    }
  };

  const newest = async ({ checkpoints }: Takeover) => {
    for await (const { claim, step } of checkpoints)
      return { resumeFrom: { claim, step }, source: 'store' as const, changes: [] };
    return { resumeFrom: null, source: null, changes: [] };
  };

  const attempts = Array.from({ length: ATTEMPTS }, (_, i) => i + 1);
  const all = Promise.all(attempts.map(attempt));
  await scheduler.run(attempts);
  await all;
  return { reads, stale, fenced, last: await readJson(truth, keys.claim(RUN, newestClaim), ClaimSchema) };
}

describe('stale attempts', () => {
  test(`in ${ROUNDS} rounds no stale checkpoint is ever resumed from, and the last attempt holds the last claim`, {
    timeout: 300_000,
  }, async () => {
    const staleReads: unknown[] = [];
    const wrongEnds: unknown[] = [];
    let writes = 0;
    let fenced = 0;
    for (let seed = 1; seed <= ROUNDS; seed++) {
      const round = await playRound(seed);
      writes += round.stale.size;
      fenced += round.fenced;
      for (const read of round.reads)
        if (round.stale.has(`${read.claim}/${read.step}`)) staleReads.push({ seed, ...read });
      if (round.last?.attemptScheduledMs !== ATTEMPTS) wrongEnds.push({ seed, last: round.last });
    }
    expect(staleReads).toEqual([]);
    expect(wrongEnds).toEqual([]);
    // The rounds do contain what they are about.
    expect(writes).toBeGreaterThan(ROUNDS / 100);
    expect(fenced).toBeGreaterThan(ROUNDS / 2);
  });
});
