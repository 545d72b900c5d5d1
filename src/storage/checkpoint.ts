// Commits checkpoints: parts first, then the manifest, whose creation is the commit. Fetches them again.
import { readdir } from 'node:fs/promises';
import { AnnealError } from '../contracts/failure.ts';
import type { Checkpoint } from '../contracts/records.ts';
import { requireNewest } from './claim.ts';
import { partsOf, readSealed, requireAsSealed } from './claim-parts.ts';
import { fileSetOf, getFolder, putFolder } from './file-set.ts';
import { keys } from './keys.ts';
import type { ObjectStore } from './object-store.ts';
import { createJson } from './record.ts';
import { deleteOldCheckpoints, type Retention } from './retention.ts';
import { askForShares, collectShares, forgetShares, isPart, type Others, ShareGone } from './shares.ts';
import { untilAnswered } from './until-answered.ts';

export interface LocalSave {
  path: string;
  step: number;
  terminal: boolean;
  best: Checkpoint['best'];
}

export interface Committer {
  /** Hands over a sealed checkpoint folder. Returns at once; a newer one replaces one that still waits. */
  offer(save: LocalSave, measured: Measured): void;
  /** The last committed step of this claim, or null. */
  committedStep(): number | null;
  /** Why commits are waiting, or null. */
  waitingFor(): string | null;
  /** Gives up on a commit that a newer save has overtaken: for the little time that a preempted worker has. */
  hurry(): void;
  /** Resolves when nothing is waiting. Rejects with what made committing impossible, or when the signal aborts. */
  drain(): Promise<void>;
}

export interface CommitterOptions {
  store: ObjectStore;
  identity: Pick<Checkpoint, 'run' | 'claim' | 'lineage'>;
  retention: Pick<Retention, 'chain' | 'keep'>;
  /** A gang's hosts: the others store what this one lacks of a checkpoint's files. */
  hosts?: Others;
  signal: AbortSignal;
  /** A folder whose files are not what its own manifest says was not committed. */
  onRefused?: (message: string) => void;
  /** Processor seconds that this process spent while a commit ran. */
  onCommitted?: (cpuSeconds: number) => void;
  /** A store that was away has answered; since when it had not, ms since the epoch, and what it said. */
  onBack?: (sinceMs: number, why: string) => void;
  /** A commit turned out to be impossible, such as `fenced`: the attempt must end. */
  onBroken?: (error: unknown) => void;
}

/** Hosts that are waited for longer than this are worth a word, ms. */
const SHARES_LATE_MS = 10_000;

/** What the run has cost and given up to a checkpoint. */
type Measured = Pick<Checkpoint, 'goodput' | 'curve'>;
type Waiting = LocalSave & Measured;

/**
 * Commits in the background, one at a time, newest first. At most one folder waits, so a store that is away costs no memory and no disk:
 * the folders belong to the trainer, which keeps its last few.
 */
export function createCommitter(options: CommitterOptions): Committer {
  const { signal, identity, hosts = { names: [] } } = options;
  const isGang = hosts.names.length > 1;
  let waiting: Waiting | null = null;
  let running: Promise<void> | null = null;
  let current: { step: number; controller: AbortController } | null = null;
  let isHurried = false;
  let committed: number | null = null;
  let trouble: { sinceMs: number; why: string } | null = null;
  let late: string | null = null;
  let broken: unknown = null;

  async function commitWaiting(): Promise<void> {
    while (waiting !== null) {
      const save: Waiting = waiting;
      current = { step: save.step, controller: new AbortController() };
      const stop = AbortSignal.any([signal, current.controller.signal]);
      const cpu = process.cpuUsage();
      try {
        await untilAnswered(
          () => commitCheckpoint(options, save, stop),
          stop,
          (why) => {
            if (why === null && trouble !== null) options.onBack?.(trouble.sinceMs, trouble.why);
            trouble = why === null ? null : { sinceMs: trouble?.sinceMs ?? Date.now(), why };
          },
        );
        committed = save.step;
        await deleteOld(save);
        options.onCommitted?.(cpuSecondsSince(cpu));
      } catch (error) {
        const isOvertaken = current.controller.signal.aborted && !signal.aborted;
        const isCorrupt = error instanceof AnnealError && error.kind === 'checkpoint_corrupt';
        // The trainer has rotated the folder away: a newer one follows.
        if (!isOvertaken && !isGone(error) && !isCorrupt) throw error;
        if (isCorrupt) options.onRefused?.(error.message);
      } finally {
        current = null;
        late = null;
      }
      if (waiting === save) waiting = null;
    }
  }

  const cutOvertaken = () => {
    if (isHurried && current !== null && waiting !== null && waiting.step > current.step) current.controller.abort();
  };

  return {
    offer(save, measured) {
      waiting = { ...save, ...measured };
      cutOvertaken();
      running ??= commitWaiting()
        .catch((error: unknown) => {
          broken = error;
          waiting = null;
          if (!signal.aborted) options.onBroken?.(error);
        })
        .finally(() => {
          running = null;
        });
    },
    committedStep: () => committed,
    waitingFor: () => trouble?.why ?? late,
    hurry() {
      isHurried = true;
      cutOvertaken();
    },
    async drain() {
      while (running !== null) await running;
      if (broken !== null) throw broken;
    },
  };

  async function commitCheckpoint(
    { store }: CommitterOptions,
    { goodput, curve, step, terminal, best, path }: Waiting,
    stop: AbortSignal,
  ): Promise<void> {
    const { run, claim } = identity;
    await requireNewest(store, identity);
    const sealed = await readSealed(path);
    const here = await readdir(path);
    const isShared = isGang && Object.keys(sealed).some((name) => isPart(name) && !here.includes(name));
    if (isShared) await askForShares(store, identity, step);
    const own = await putFolder(partsOf(store, run, claim), path, stop);
    const others = isShared ? await collectShares(store, identity, step, hosts, lateAfter(step), stop) : [];
    const files = fileSetOf([...new Map([...others, ...own.files].map((file) => [file.path, file])).values()]);
    requireAsSealed(path, sealed, files.files);
    const checkpoint: Checkpoint = { ...identity, step, terminal, best, goodput, curve, files };
    // A step that was done again gives the same bytes; only what was measured beside them differs.
    await createJson(store, keys.checkpoint(run, claim, step), checkpoint);
  }

  function lateAfter(step: number): (missing: string[]) => void {
    const sinceMs = Date.now();
    return (missing) => {
      if (Date.now() - sinceMs > SHARES_LATE_MS)
        late = `Not every host has stored its part of step ${step}; ${missing.join(', ')} did not yet.`;
    };
  }

  /** A store that cannot delete costs space, not commits: the next call deletes what this one leaves. */
  async function deleteOld({ best }: Waiting): Promise<void> {
    const retention: Retention = { ...options.retention, run: identity.run, bestStep: best?.step ?? null };
    const work = async () => {
      await deleteOldCheckpoints(options.store, retention);
      if (isGang) await forgetShares(options.store, identity);
    };
    await work().catch((error: unknown) => {
      if (!(error instanceof AnnealError) || error.kind !== 'store_unavailable') throw error;
    });
  }
}

/** @throws AnnealError `checkpoint_corrupt` when a part is missing or has other bytes. */
export async function fetchCheckpoint(
  store: ObjectStore,
  { run, claim, files }: Checkpoint,
  folder: string,
  signal: AbortSignal,
): Promise<void> {
  await getFolder(partsOf(store, run, claim), files, folder, signal);
}

function isGone(error: unknown): boolean {
  return error instanceof ShareGone || (error as NodeJS.ErrnoException).code === 'ENOENT';
}

function cpuSecondsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}
