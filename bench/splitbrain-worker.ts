// A worker of `bench splitbrain`: a process with a host's state of its own that trains what it is told to, one attempt at a time.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { locateLocal } from '../src/cli/drill/local.ts';
import { readEnvironment } from '../src/contracts/environment.ts';
import type { FileSet } from '../src/contracts/records.ts';
import type { Recipe } from '../src/contracts/spec.ts';
import type { ObjectStore } from '../src/storage/object-store.ts';
import { createStoreFromEnvironment } from '../src/storage/open-store.ts';
import { openBaseModel } from '../src/trainer/base-model.ts';
import { train } from '../src/trainer/training.ts';
import { createWarmParent } from '../src/trainer/warm-parent.ts';
import { SHARED_MEMORY } from './small-model.ts';

export interface Order {
  run: string;
  /** When a server would have scheduled the attempt, ms since the epoch. */
  scheduledMs: number;
  dataset: FileSet;
  recipe: Recipe;
}

/** How an attempt ended: with weights, or with the kind of its failure. */
export type End = { weights: string } | { kind: string; message: string };

/** Each write takes so long, ms: a suspension often hits a commit between its look at the claims and its manifest. */
const WRITE_MS = 100;

function slowly(store: ObjectStore): ObjectStore {
  return {
    ...store,
    putIfAbsent: async (key, body) => {
      await sleep(WRITE_MS);
      return await store.putIfAbsent(key, body);
    },
    put: async (key, body, sha256) => {
      await sleep(WRITE_MS);
      await store.put(key, body, sha256);
    },
  };
}

const [state = ''] = process.argv.slice(2);
const { python, models } = locateLocal();
const store = slowly(createStoreFromEnvironment(readEnvironment(process.env)));
const warmParent = createWarmParent(python, join(state, 'warm-parent'));
warmParent.warmUp();

async function attempt({ run, scheduledMs, ...inputs }: Order): Promise<End> {
  try {
    const training = await train({
      ...{ ...inputs, store, python, warmParent, state, sharedMemory: SHARED_MEMORY, stepBefore: null },
      claimant: { run, workflowRunId: run, attemptScheduledMs: scheduledMs, host: state },
      base: await openBaseModel('tiny', models),
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
    return { weights: training.result.weightsSha256 };
  } catch (error) {
    const { kind = 'unexpected', message } = error as Error & { kind?: string };
    return { kind, message };
  }
}

process.on('message', (order: Order) => void attempt(order).then((end) => process.send?.(end)));
// Its trainers end with it.
process.once('disconnect', () => void warmParent.close().finally(() => process.exit(0)));
