// Commits checkpoints: parts first, then the manifest, whose creation is the commit.
import { AnnealError } from '../contracts/failure.ts';
import type { Checkpoint } from '../contracts/records.ts';
import { putFolder } from './file-set.ts';
import { keys } from './keys.ts';
import type { ObjectStore } from './object-store.ts';
import { createJson } from './record.ts';

export interface LocalSave {
  path: string;
  step: number;
  terminal: boolean;
  best: Checkpoint['best'];
}

export interface Committer {
  /** Hands over a sealed checkpoint folder. Returns at once; a newer one replaces one that still waits. */
  offer(save: LocalSave): void;
  /** The last committed step of this claim, or null. */
  committedStep(): number | null;
  /** Why commits are waiting, or null. */
  waitingFor(): string | null;
  /** Resolves when nothing is waiting. Rejects with what made committing impossible, or when the signal aborts. */
  drain(): Promise<void>;
}

/** Between tries of a commit while the store is away, ms. Training goes on meanwhile, so there is no limit on tries. */
const RETRY_MS = { first: 500, most: 10_000 };

/**
 * Commits in the background, one at a time, newest first. At most one folder waits, so a store that is away costs no memory and no disk:
 * the folders belong to the trainer, which keeps its last few.
 */
export function createCommitter(
  store: ObjectStore,
  identity: Pick<Checkpoint, 'run' | 'claim' | 'lineage'>,
  signal: AbortSignal,
): Committer {
  let waiting: LocalSave | null = null;
  let running: Promise<void> | null = null;
  let committed: number | null = null;
  let trouble: string | null = null;
  let broken: unknown = null;

  async function run(): Promise<void> {
    let delayMs = RETRY_MS.first;
    while (waiting !== null) {
      const save: LocalSave = waiting;
      try {
        await commitCheckpoint(store, identity, save, signal);
        committed = Math.max(committed ?? 0, save.step);
        trouble = null;
        delayMs = RETRY_MS.first;
        if (waiting === save) waiting = null;
      } catch (error) {
        if (signal.aborted) throw error;
        if (isGone(error)) {
          if (waiting === save) waiting = null; // the trainer rotated it away: a newer one follows
          continue;
        }
        if (!(error instanceof AnnealError) || error.kind !== 'store_unavailable') throw error;
        trouble = error.message;
        await pause(delayMs, signal);
        delayMs = Math.min(delayMs * 2, RETRY_MS.most);
      }
    }
  }

  return {
    offer(save) {
      waiting = save;
      running ??= run()
        .catch((error: unknown) => {
          broken = error;
          waiting = null;
        })
        .finally(() => {
          running = null;
        });
    },
    committedStep: () => committed,
    waitingFor: () => trouble,
    async drain() {
      while (running !== null) await running;
      if (broken !== null) throw broken;
    },
  };
}

async function commitCheckpoint(
  store: ObjectStore,
  identity: Pick<Checkpoint, 'run' | 'claim' | 'lineage'>,
  save: LocalSave,
  signal: AbortSignal,
): Promise<void> {
  const files = await putFolder(store, save.path, signal);
  const checkpoint: Checkpoint = { ...identity, step: save.step, terminal: save.terminal, best: save.best, files };
  await createJson(store, keys.checkpoint(identity.run, identity.claim, save.step), checkpoint);
}

function isGone(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        reject(signal.reason);
      },
      { once: true },
    );
  });
}
