// Checkpoints: what a save costs the training, and how fast they go to the store and back. The store is the embedded S3 server on this
// machine, which shares its cores.
import { randomFillSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TimedEvent } from '../src/cli/drill/events.ts';
import { CheckpointSchema, type Goodput } from '../src/contracts/records.ts';
import { createCommitter, fetchCheckpoint } from '../src/storage/checkpoint.ts';
import { sha256Hex } from '../src/storage/digest.ts';
import { keys } from '../src/storage/keys.ts';
import type { ObjectStore } from '../src/storage/object-store.ts';
import { readJson } from '../src/storage/record.ts';
import { type BenchOptions, type BenchReport, median, quantile, round, show } from './report.ts';
import { withSmallModel } from './small-model.ts';
import { withStore } from './store.ts';
import { anneal } from './systems.ts';

/** 600 MB is a full state of 50 million parameters, or a LoRA's of several billion. */
const FULL = { bytes: 600e6, rounds: 5, steps: 200, saveSteps: 10 };
const QUICK = { bytes: 40e6, rounds: 1, steps: 40, saveSteps: 10 };
/** The first transfer makes connections and the server's first files. */
const WARM_UP_BYTES = 1e6;
/** A checkpoint's weights and its moments. */
const FILES = 3;
const LIMIT_MS = 20 * 60_000;
const RUN = 'bench';
const LINEAGE = sha256Hex(Buffer.from(RUN));

export async function run(options: BenchOptions): Promise<BenchReport> {
  const { stall, transfers, bytes } = await withStore(options, async ({ store }) => {
    const size = options.quick ? QUICK : FULL;
    options.say(`training ${size.steps} steps, saving every ${size.saveSteps}`);
    const stall = await measureStall(store, size, options.signal);
    options.say(`committing and fetching ${size.bytes / 1e6} MB, ${size.rounds} times`);
    return { stall, transfers: await measureTransfers(store, size, options.signal), bytes: size.bytes };
  });
  const of = (name: keyof Transfer) => median(transfers.map((transfer) => transfer[name])) as number;
  const perGb = (seconds: number) => round(seconds / (bytes / 1e9), 2);
  const json = {
    stallMsP50: round(median(stall), 1),
    stallMsP95: round(quantile(stall, 0.95), 1),
    saves: stall.length,
    commitMsP50: round(of('commitMs')),
    uploadMBps: round(bytes / 1e3 / of('commitMs')),
    downloadMBps: round(bytes / 1e3 / of('fetchMs')),
    uploadCpuSecondsPerGb: perGb(of('commitCpuSeconds')),
    downloadCpuSecondsPerGb: perGb(of('fetchCpuSeconds')),
    bytes,
  };
  return {
    title: 'Checkpoints',
    json,
    columns: ['what', 'measured'],
    rows: [
      ['stall per save, 35 MB of state (p50)', show(json.stallMsP50, 1, 'ms')],
      ['stall per save (p95)', show(json.stallMsP95, 1, 'ms')],
      [`commit of ${bytes / 1e6} MB (p50)`, show(json.commitMsP50, 0, 'ms')],
      ['up', show(json.uploadMBps, 0, 'MB/s')],
      ['down', show(json.downloadMBps, 0, 'MB/s')],
      ['processor time up', show(json.uploadCpuSecondsPerGb, 2, 's/GB')],
      ['processor time down', show(json.downloadCpuSecondsPerGb, 2, 's/GB')],
    ],
    notes: [
      'Stall: how much longer the time from step to step is with a save between them. Commit: from the sealed folder to the manifest in the store.',
      'Up reads, hashes and sends; down fetches, verifies, writes and syncs. Processor time is that of the supervisor, without the server.',
      'The store is SeaweedFS on the same machine.',
    ],
  };
}

type Size = typeof FULL;

/** Of each save, ms. */
async function measureStall(store: ObjectStore, { steps, saveSteps }: Size, signal: AbortSignal): Promise<number[]> {
  const race = { name: 'stall', steps, saveSteps, killAfterMs: null, limitMs: LIMIT_MS, signal };
  const { events } = await withSmallModel((small) => anneal({ store, isWarm: false })(small, race));
  const ends = events.filter(({ ev }) => ev === 'step') as (TimedEvent & { step: number })[];
  const gaps = ends.slice(1).map(({ t, step }, i) => ({ ms: t - (ends[i] as TimedEvent).t, after: step - 1 }));
  const isSave = ({ after }: { after: number }) => after % saveSteps === 0;
  const plain = median(gaps.filter((gap) => !isSave(gap)).map(({ ms }) => ms)) ?? Number.NaN;
  return gaps.filter(isSave).map(({ ms }) => ms - plain);
}

interface Transfer {
  commitMs: number;
  commitCpuSeconds: number;
  fetchMs: number;
  fetchCpuSeconds: number;
}

async function measureTransfers(store: ObjectStore, { bytes, rounds }: Size, signal: AbortSignal): Promise<Transfer[]> {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-bench-'));
  try {
    const transfers: Transfer[] = [];
    for (let round = 0; round <= rounds; round++) {
      const path = join(folder, `checkpoint-${round}`);
      writeCheckpoint(path, round, round === 0 ? WARM_UP_BYTES : bytes);
      transfers.push(await transfer(store, path, round, join(folder, 'fetched'), signal));
      rmSync(folder, { recursive: true, force: true });
    }
    return transfers.slice(1);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Random bytes, sealed as a trainer seals them. */
function writeCheckpoint(path: string, step: number, bytes: number): void {
  mkdirSync(path, { recursive: true });
  const names = Array.from({ length: FILES }, (_, i) => `part-${i}.safetensors`);
  const files = names.map((name) => {
    const content = randomFillSync(Buffer.allocUnsafe(Math.floor(bytes / FILES)));
    writeFileSync(join(path, name), content);
    return [name, { size: content.length, sha256: sha256Hex(content) }] as const;
  });
  const manifest = { v: 1, step, terminal: false, best: null, files: Object.fromEntries(files) };
  writeFileSync(join(path, 'manifest.json'), JSON.stringify(manifest));
}

async function transfer(
  store: ObjectStore,
  path: string,
  step: number,
  target: string,
  signal: AbortSignal,
): Promise<Transfer> {
  const committer = createCommitter({
    store,
    identity: { run: RUN, claim: 1, lineage: LINEAGE },
    retention: { chain: [{ claim: 1, stepMax: Number.POSITIVE_INFINITY }], keep: 2 },
    signal,
  });
  const goodput: Goodput = { startedMs: 0, atMs: 0, step, productiveSeconds: 0, gpuSeconds: 0, lostSeconds: {} };
  const commit = await timed(async () => {
    committer.offer({ path, step, terminal: false, best: null }, { goodput });
    await committer.drain();
  });
  const checkpoint = await readJson(store, keys.checkpoint(RUN, 1, step), CheckpointSchema);
  if (checkpoint === null) throw new Error(`Checkpoint ${step} was not committed.`);
  const fetch = await timed(() => fetchCheckpoint(store, checkpoint, target, signal));
  return {
    commitMs: commit.ms,
    commitCpuSeconds: commit.cpuSeconds,
    fetchMs: fetch.ms,
    fetchCpuSeconds: fetch.cpuSeconds,
  };
}

async function timed(work: () => Promise<void>): Promise<{ ms: number; cpuSeconds: number }> {
  const [startedMs, before] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(before);
  return { ms: performance.now() - startedMs, cpuSeconds: (user + system) / 1e6 };
}
