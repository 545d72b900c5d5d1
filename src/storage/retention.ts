// What of a run's committed checkpoints is kept, and how the rest goes: manifests first, then the parts that no manifest names.
//
// Parts lie under the claim that wrote them, and only that claim's attempt writes there. So a part can be missing only from what a
// stale attempt commits after it was taken over, and that is never read. An attempt that was taken over and does not know it yet
// could still delete: it looks for a newer claim before each commit and again before it deletes, and it always keeps two
// checkpoints, so the one that the newer claim resumes from outlives the single commit that can slip through in between.
// Not protected: an attempt that is suspended for the whole time between its second look and the deletion, twice in a row. Then the
// newer claim finds its checkpoint incomplete and takes an older one.
import { CheckpointSchema } from '../contracts/records.ts';
import { type ChainLink, committedSteps, requireNewest } from './claim.ts';
import { keys } from './keys.ts';
import type { ObjectStore } from './object-store.ts';
import { readJson } from './record.ts';

export interface Retention {
  run: string;
  /** The claim that deletes, first of its chain. */
  chain: ChainLink[];
  /** Newest checkpoints that are kept. */
  keep: number;
  bestStep: number | null;
}

interface Kept {
  claim: number;
  step: number;
}

/** See the head of this file. */
const KEEP_MIN = 2;

/** Pure. Newest first in each list, lists in the order of the chain. */
export function decideKept(committed: Kept[], { chain, keep, bestStep }: Omit<Retention, 'run'>): Kept[] {
  const isNamed = ({ claim, step }: Kept) => chain.some((link) => link.claim === claim && link.stepMax === step);
  return committed.filter((found, i) => i < Math.max(keep, KEEP_MIN) || found.step === bestStep || isNamed(found));
}

/** @throws AnnealError `fenced` when a newer claim exists. Whatever a failed call leaves, the next one deletes. */
export async function deleteOldCheckpoints(store: ObjectStore, retention: Retention): Promise<void> {
  const { run, chain } = retention;
  const found = await Promise.all(chain.map((link) => committedSteps(store, run, link)));
  const committed = found.flatMap(({ steps }, i) =>
    steps.map((step) => ({ claim: (chain[i] as ChainLink).claim, step })),
  );
  const kept = decideKept(committed, retention);
  await requireNewest(store, { run, claim: (chain[0] as ChainLink).claim });
  for (const [i, { claim }] of chain.entries()) {
    const stays = kept.filter((its) => its.claim === claim).map(({ step }) => step);
    const { steps, beyond } = found[i] as Awaited<ReturnType<typeof committedSteps>>;
    const goes = [...steps, ...beyond].filter((step) => !stays.includes(step));
    for (const step of goes) await store.delete(keys.checkpoint(run, claim, step));
    await deleteUnnamedParts(store, run, claim, stays);
  }
}

async function deleteUnnamedParts(store: ObjectStore, run: string, claim: number, steps: number[]): Promise<void> {
  const prefix = keys.parts(run, claim);
  const there = await store.list(prefix);
  if (there.length === 0) return;
  const named = new Set<string>();
  for (const step of steps) {
    const checkpoint = await readJson(store, keys.checkpoint(run, claim, step), CheckpointSchema);
    for (const file of checkpoint?.files.files ?? []) for (const part of file.parts) named.add(part);
  }
  for (const key of there) if (!named.has(key.slice(prefix.length))) await store.delete(key);
}
