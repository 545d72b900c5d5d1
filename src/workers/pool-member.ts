// A host's membership in the GPU pool: it registers, stays as long as its worker lives, and stays away while it works for the shared
// queue, which the pool knows nothing of. While it works for a gang it takes nothing from the shared queue.
import { randomUUID } from 'node:crypto';
import { Context } from '@temporalio/activity';
import type { Client } from '@temporalio/client';
import { toFailure } from '../activities/stage.ts';
import { AnnealError } from '../contracts/failure.ts';
import { POOL, TASK_QUEUES, WORKFLOWS } from '../contracts/names.ts';
import type { PoolHost } from '../contracts/pool.ts';
import type { Log } from '../telemetry/log.ts';

/** Between looks whether the host is still in the pool, ms. */
const LOOK_MS = 1_000;
/** From registering to the activity that says that it has worked, ms: the pool lets it wait so long. */
const ANSWER_MS = 15_000;
/** Well within the heartbeat timeout of the activity, ms. */
const HEARTBEAT_MS = 2_000;

export interface PoolMember {
  activities: { stayInPool(host: PoolHost): Promise<void> };
  isBusy(): boolean;
  /** Work of the shared queue. @throws `preempted` while a gang has the host. */
  whileAway<T>(work: () => Promise<T>): Promise<T>;
  /** Work for a gang. @throws `preempted` while the shared queue has the host. */
  whileGranted<T>(work: () => Promise<T>): Promise<T>;
  close(): void;
}

export function createPoolMember(client: Client, about: Omit<PoolHost, 'bootId'>, log: Log): PoolMember {
  const host: PoolHost = { ...about, bootId: randomUUID() };
  const stays = new Set<AbortController>();
  let away = 0;
  let granted = 0;
  let registeredMs = Number.NEGATIVE_INFINITY;

  const register = async () => {
    if (stays.size > 0 || away > 0 || Date.now() - registeredMs < ANSWER_MS) return;
    registeredMs = Date.now();
    await client.workflow
      .signalWithStart(WORKFLOWS.gpuPool, {
        workflowId: POOL.id,
        taskQueue: TASK_QUEUES.control,
        args: [{}],
        signal: POOL.registerHost,
        signalArgs: [host],
      })
      .catch((error: unknown) => log.warn('the GPU pool does not answer', { error }));
  };
  const timer = setInterval(() => void register(), LOOK_MS);

  const leave = () => {
    for (const stay of stays) stay.abort();
  };
  const refuse = (why: string) => toFailure(new AnnealError('preempted', `Host ${host.name} ${why}.`));

  return {
    activities: {
      async stayInPool({ bootId }) {
        // Left over by a worker before this one.
        if (bootId !== host.bootId || away > 0) return;
        const context = Context.current();
        const stay = new AbortController();
        stays.add(stay);
        const heart = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
        context.heartbeat();
        try {
          const left = new Promise<void>((resolve) => {
            stay.signal.addEventListener('abort', () => resolve(), { once: true });
          });
          await Promise.race([left, context.cancelled]);
        } finally {
          clearInterval(heart);
          stays.delete(stay);
          registeredMs = Number.NEGATIVE_INFINITY;
        }
      },
    },
    isBusy: () => away > 0,
    async whileAway(work) {
      if (granted > 0) throw refuse('trains in a gang; another host takes this');
      away++;
      leave();
      try {
        return await work();
      } finally {
        away--;
      }
    },
    async whileGranted(work) {
      if (away > 0) throw refuse('works for the shared queue');
      granted++;
      try {
        return await work();
      } finally {
        granted--;
      }
    },
    close: () => clearInterval(timer),
  };
}
