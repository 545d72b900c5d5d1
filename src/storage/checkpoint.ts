// Commits checkpoints: parts first, then the manifest, whose creation is the commit. Fetches them again.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import type { Checkpoint } from '../contracts/records.ts';
import { type LocalCheckpoint, LocalCheckpointSchema } from '../contracts/trainer-protocol.ts';
import { requireNewest } from './claim.ts';
import { getFolder, putFolder } from './file-set.ts';
import { keys } from './keys.ts';
import type { ObjectStore } from './object-store.ts';
import { createJson } from './record.ts';
import { deleteOldCheckpoints, type Retention } from './retention.ts';
import { untilAnswered } from './until-answered.ts';

export interface LocalSave {
  path: string;
  step: number;
  terminal: boolean;
  best: Checkpoint['best'];
}

export interface Committer {
  /** Hands over a sealed checkpoint folder. Returns at once; a newer one replaces one that still waits. */
  offer(save: LocalSave, goodput: Checkpoint['goodput']): void;
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

interface Waiting extends LocalSave {
  goodput: Checkpoint['goodput'];
}

/**
 * Commits in the background, one at a time, newest first. At most one folder waits, so a store that is away costs no memory and no disk:
 * the folders belong to the trainer, which keeps its last few.
 */
export function createCommitter(options: CommitterOptions): Committer {
  const { signal, identity } = options;
  let waiting: Waiting | null = null;
  let running: Promise<void> | null = null;
  let current: { step: number; controller: AbortController } | null = null;
  let isHurried = false;
  let committed: number | null = null;
  let trouble: { sinceMs: number; why: string } | null = null;
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
      }
      if (waiting === save) waiting = null;
    }
  }

  const cutOvertaken = () => {
    if (isHurried && current !== null && waiting !== null && waiting.step > current.step) current.controller.abort();
  };

  return {
    offer(save, goodput) {
      waiting = { ...save, goodput };
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
    waitingFor: () => trouble?.why ?? null,
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
    { goodput, step, terminal, best, path }: Waiting,
    stop: AbortSignal,
  ): Promise<void> {
    const { run, claim } = identity;
    await requireNewest(store, identity);
    const files = await putFolder(partsOf(store, run, claim), path, stop);
    await requireAsSealed(path, files);
    const checkpoint: Checkpoint = { ...identity, step, terminal, best, goodput, files };
    // A step that was done again gives the same bytes; only what was measured beside them differs.
    await createJson(store, keys.checkpoint(run, claim, step), checkpoint);
  }

  /** A store that cannot delete costs space, not commits: the next call deletes what this one leaves. */
  async function deleteOld({ best }: Waiting): Promise<void> {
    const retention: Retention = { ...options.retention, run: identity.run, bestStep: best?.step ?? null };
    await deleteOldCheckpoints(options.store, retention).catch((error: unknown) => {
      if (!(error instanceof AnnealError) || error.kind !== 'store_unavailable') throw error;
    });
  }
}

/** What was read must be what the trainer sealed: the disk may have lost a bit since. */
async function requireAsSealed(folder: string, files: Checkpoint['files']): Promise<void> {
  const corrupt = (what: string) =>
    new AnnealError('checkpoint_corrupt', `Checkpoint ${folder} was not committed: ${what}; look at this host's disk.`);
  const text = await readFile(join(folder, 'manifest.json'), 'utf8');
  const sealed = parseManifest(text);
  if (sealed === null) throw corrupt('its manifest is not readable');
  for (const [path, { sha256 }] of Object.entries(sealed.files)) {
    const read = files.files.find((file) => file.path === path);
    if (read?.sha256 !== sha256) throw corrupt(`${path} is not what its manifest says`);
  }
}

function parseManifest(text: string): LocalCheckpoint | null {
  try {
    return LocalCheckpointSchema.parse(JSON.parse(text));
  } catch {
    return null;
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

/** The store with the blobs of one claim's checkpoints in place of the shared ones. */
function partsOf(store: ObjectStore, run: string, claim: number): ObjectStore {
  const at = (key: string) =>
    key.startsWith('blobs/') ? keys.part(run, claim, key.slice(key.lastIndexOf('/') + 1)) : key;
  return {
    ...store,
    put: (key, body, sha256) => store.put(at(key), body, sha256),
    get: (key) => store.get(at(key)),
    head: (key) => store.head(at(key)),
  };
}

function isGone(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

function cpuSecondsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}
