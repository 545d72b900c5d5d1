// Checkpoints whose files lie on several hosts: the first one asks for a step, every other one stores what it has of it and says so, and
// what all of them have said is the checkpoint's file set, which the first one commits under the claim of all.
//
// Only what was asked for is stored. So all hosts store the same steps, however fast each of them reaches the store; and as the first
// host asks only when it is done with the step before, nothing is being stored while it deletes parts that no manifest names.
import { setTimeout as sleep } from 'node:timers/promises';
import { AnnealError } from '../contracts/failure.ts';
import { type FileSet, type Share, ShareSchema } from '../contracts/records.ts';
import { requireNewest } from './claim.ts';
import { partsOf, readSealed, requireAsSealed } from './claim-parts.ts';
import { putFolder } from './file-set.ts';
import { keyNumber, keys } from './keys.ts';
import type { ObjectStore } from './object-store.ts';
import { createJson, readJson } from './record.ts';
import { untilAnswered } from './until-answered.ts';

/**
 * Between looks at what another host has said, ms: a list of one small prefix, and only while something is due. Small states are stored at
 * once; with large ones the other host takes its time, and so may the looks.
 */
const LOOK_MS = { first: 50, most: 2_000 };

/** Between questions whether a host that has not stored its part is still there, ms: each is a request to the server. */
const ASK_GONE_MS = 2_000;

/** A first host that ends asks at once for the newest save of all; one that has not asked by then is gone, ms. */
const ASK_MS_MAX = 10_000;

export interface OfClaim {
  run: string;
  claim: number;
}

/** Another host has deleted its folder, because a newer one follows, or is gone itself. */
export class ShareGone extends Error {}

export async function askForShares(store: ObjectStore, { run, claim }: OfClaim, step: number): Promise<void> {
  await createJson(store, keys.shareWanted(run, claim, step), { step });
}

export interface Others {
  /** Names of all hosts, by place. */
  names: string[];
  /** Whether the host at this place does nothing for the gang any more; absent = nobody knows. */
  isGone?: ((host: number) => Promise<boolean>) | undefined;
}

/**
 * Waits until every other host has stored its files of the step. @param onWait gets those that are waited for.
 * @throws ShareGone, AnnealError `checkpoint_corrupt` with what is wrong on the other host.
 */
export async function collectShares(
  store: ObjectStore,
  { run, claim }: OfClaim,
  step: number,
  { names, isGone }: Others,
  onWait: (missing: string[]) => void,
  signal: AbortSignal,
): Promise<FileSet['files']> {
  const places = [...names.keys()].slice(1);
  let askMs = Date.now() + ASK_GONE_MS;
  let gone: number[] = [];
  for (let delayMs = LOOK_MS.first; ; delayMs = Math.min(2 * delayMs, LOOK_MS.most)) {
    const there = (await store.list(keys.sharesOf(run, claim, step))).map(keyNumber);
    const missing = places.filter((host) => !there.includes(host));
    if (missing.length === 0) break;
    // Its last deed may have been to store its part.
    const lost = missing.find((host) => gone.includes(host));
    if (lost !== undefined)
      throw new ShareGone(`Host ${names[lost]} ended before it had stored its part of step ${step}.`);
    onWait(missing.map((host) => names[host] as string));
    if (isGone !== undefined && Date.now() >= askMs) {
      const answers = await Promise.all(missing.map(async (host) => ((await isGone(host)) ? [host] : [])));
      gone = answers.flat();
      askMs = Date.now() + ASK_GONE_MS;
      if (gone.length > 0) continue;
    }
    await sleep(delayMs, undefined, { signal });
  }
  const files: FileSet['files'] = [];
  for (const host of places) {
    const share = await readJson(store, keys.share(run, claim, step, host), ShareSchema);
    if (share === null || share.is === 'gone') throw new ShareGone(`Host ${names[host]} has step ${step} no more.`);
    if (share.is === 'corrupt') throw new AnnealError('checkpoint_corrupt', `Host ${names[host]}: ${share.message}`);
    files.push(...share.files.files);
  }
  return files;
}

/** What a checkpoint's hosts have said is in its manifest now. Of this claim and older ones. */
export async function forgetShares(store: ObjectStore, { run, claim }: OfClaim): Promise<void> {
  const newer = keys.shares(run, claim + 1);
  for (const key of await store.list(keys.allShares(run))) if (key < newer) await store.delete(key);
}

export interface ShareGiver {
  /** Hands over a sealed folder of this host. Returns at once. */
  offer(save: { step: number; path: string }): void;
  /** There will be no further save: gives up on a step that a newer one has overtaken, and on a first host that does not ask any more. */
  hurry(): void;
  /** Resolves when the newest save is stored, or nobody wants it. Rejects with what made storing impossible, or when the signal aborts. */
  drain(): Promise<void>;
}

export interface ShareGiverOptions {
  store: ObjectStore;
  identity: OfClaim;
  /** Its place in the gang. */
  host: number;
  signal: AbortSignal;
  /** Storing turned out to be impossible, such as `fenced`: the gang must end. */
  onBroken: (error: unknown) => void;
}

/** The part of a host that is not the first. */
export function createShareGiver({ store, identity, host, signal, onBroken }: ShareGiverOptions): ShareGiver {
  const { run, claim } = identity;
  const saves = new Map<number, string>();
  let given = -1;
  let running: Promise<void> | null = null;
  let current: { step: number; controller: AbortController } | null = null;
  let broken: unknown = null;
  let askedByMs = Number.POSITIVE_INFINITY;

  const newest = () => Math.max(given, ...saves.keys());

  async function serve(): Promise<void> {
    let delayMs = LOOK_MS.first;
    while (newest() > given) {
      const wanted = await untilAnswered(newestWanted, signal);
      const path = saves.get(wanted);
      if (wanted <= given || path === undefined) {
        if (Date.now() > askedByMs) return;
        await sleep(delayMs, undefined, { signal });
        delayMs = Math.min(2 * delayMs, LOOK_MS.most);
      } else if (await give(wanted, path)) {
        given = wanted;
        delayMs = LOOK_MS.first;
        for (const step of saves.keys()) if (step <= given) saves.delete(step);
      }
    }
  }

  async function newestWanted(): Promise<number> {
    const prefix = keys.shares(run, claim);
    const asked = (await store.list(prefix)).filter((key) => !key.slice(prefix.length).includes('/'));
    return Math.max(-1, ...asked.map((key) => keyNumber(key) ?? -1));
  }

  /** False when it was cut short. */
  async function give(step: number, path: string): Promise<boolean> {
    current = { step, controller: new AbortController() };
    const cut = current.controller.signal;
    const stop = AbortSignal.any([signal, cut]);
    try {
      await untilAnswered(async () => {
        await requireNewest(store, identity);
        await createJson(store, keys.share(run, claim, step, host), await storeFolder(store, identity, path, stop));
      }, stop);
      return true;
    } catch (error) {
      if (cut.aborted && !signal.aborted) return false;
      throw error;
    } finally {
      current = null;
    }
  }

  return {
    offer({ step, path }) {
      saves.set(step, path);
      running ??= serve()
        .catch((error: unknown) => {
          broken = error;
          saves.clear();
          if (!signal.aborted) onBroken(error);
        })
        .finally(() => {
          running = null;
        });
    },
    hurry() {
      askedByMs = Date.now() + ASK_MS_MAX;
      if (current !== null && newest() > current.step) current.controller.abort();
    },
    async drain() {
      while (running !== null) await running;
      if (broken !== null) throw broken;
    },
  };
}

async function storeFolder(
  store: ObjectStore,
  { run, claim }: OfClaim,
  path: string,
  signal: AbortSignal,
): Promise<Share> {
  try {
    const sealed = await readSealed(path);
    const files = await putFolder(partsOf(store, run, claim), path, signal);
    const here = new Set(files.files.map((file) => file.path));
    requireAsSealed(path, Object.fromEntries(Object.entries(sealed).filter(([name]) => here.has(name))), files.files);
    return { is: 'stored', files };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { is: 'gone' };
    if (error instanceof AnnealError && error.kind === 'checkpoint_corrupt')
      return { is: 'corrupt', message: error.message };
    throw error;
  }
}

/** Ranks of a gang that are on one host. */
export interface RanksHere {
  first: number;
  count: number;
  /** All ranks. */
  of: number;
}

/** As `shares.py` names the part of a rank. */
const PART = /^rank-(\d+)\.safetensors$/;

export function isPart(path: string): boolean {
  return PART.test(path);
}

/** Of a checkpoint's files those that a host reads: where there is one part for each rank, its own ranks' parts and what is not one. Pure. */
export function filesFor(files: FileSet, ranks: RanksHere | null): FileSet {
  const rankOf = (path: string) => Number(PART.exec(path)?.[1] ?? Number.NaN);
  const parts = files.files.filter(({ path }) => isPart(path));
  if (ranks === null || parts.length !== ranks.of) return files;
  const isElsewhere = (rank: number) => rank < ranks.first || rank >= ranks.first + ranks.count;
  return { ...files, files: files.files.filter(({ path }) => !isElsewhere(rankOf(path))) };
}
