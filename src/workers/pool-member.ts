// A host's membership in the GPU pool: it registers, stays as long as its worker lives, and says when it goes to work for the shared queue
// and when it is back. While it works for a gang, or a gang has waited long for it, it takes no training from the shared queue.
import { randomUUID } from 'node:crypto';
import { Context } from '@temporalio/activity';
import type { Client } from '@temporalio/client';
import { toFailure } from '../activities/stage.ts';
import { AnnealError } from '../contracts/failure.ts';
import { POOL, TASK_QUEUES, WORKFLOWS } from '../contracts/names.ts';
import type { HostAway, PoolHost, PoolState } from '../contracts/pool.ts';
import type { Log } from '../telemetry/log.ts';

/** Between looks whether the host is still in the pool, ms. */
const LOOK_MS = 1_000;
/** From registering to the activity that says that it has worked, ms: the pool lets it wait so long. */
const ANSWER_MS = 15_000;
/** Well within the heartbeat timeout of the activity, ms. */
const HEARTBEAT_MS = 2_000;
/** The pool's answer, ms: a training does not wait longer for it. */
const QUERY_MS = 2_000;

export interface PoolMember {
  activities: { stayInPool(host: PoolHost): Promise<void> };
  isBusy(): boolean;
  /** @throws `preempted` while the pool keeps the host for a gang. A pool that does not answer keeps nothing. */
  requireUnkept(): Promise<void>;
  /** Work of the shared queue. @throws `preempted` while a gang has the host. */
  whileAway<T>(work: () => Promise<T>): Promise<T>;
  /** Work for a gang. @throws `preempted` while the shared queue has the host. */
  whileGranted<T>(work: () => Promise<T>): Promise<T>;
  close(): void;
}

export function createPoolMember(client: Client, about: Omit<PoolHost, 'bootId'>, log: Log): PoolMember {
  const host: PoolHost = { ...about, bootId: randomUUID() };
  const stays = new Set<symbol>();
  const pool = client.workflow.getHandle(POOL.id);
  let away = 0;
  let granted = 0;
  let registeredMs = Number.NEGATIVE_INFINITY;
  /** As the pool knows it. */
  let isKnownAway = false;
  let isTelling = false;

  const silent = (error: unknown) => log.warn('the GPU pool does not answer', { error });
  const register = async () => {
    if (stays.size > 0 || Date.now() - registeredMs < ANSWER_MS) return;
    registeredMs = Date.now();
    isKnownAway = away > 0;
    await client.workflow
      .signalWithStart(WORKFLOWS.gpuPool, {
        workflowId: POOL.id,
        taskQueue: TASK_QUEUES.control,
        args: [{}],
        signal: POOL.registerHost,
        signalArgs: [{ ...host, isAway: isKnownAway } satisfies PoolHost],
      })
      .catch(silent);
  };
  /** One word at a time, so that the last one is true; a lost one is said again. */
  const tellWhereabouts = async () => {
    if (isTelling || stays.size === 0) return;
    isTelling = true;
    try {
      while (isKnownAway !== away > 0) {
        const isAway = away > 0;
        await pool.signal(POOL.hostAway, { ...host, isAway } satisfies HostAway);
        isKnownAway = isAway;
      }
    } catch (error) {
      silent(error);
    } finally {
      isTelling = false;
    }
  };
  const timer = setInterval(() => {
    void register();
    void tellWhereabouts();
  }, LOOK_MS);

  const refuse = (why: string) => toFailure(new AnnealError('preempted', `Host ${host.name} ${why}.`));

  return {
    activities: {
      async stayInPool({ bootId }) {
        // Left over by a worker before this one.
        if (bootId !== host.bootId) return;
        const context = Context.current();
        const stay = Symbol();
        stays.add(stay);
        const heart = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
        context.heartbeat();
        try {
          await context.cancelled;
        } finally {
          clearInterval(heart);
          stays.delete(stay);
          registeredMs = Number.NEGATIVE_INFINITY;
        }
      },
    },
    isBusy: () => away > 0,
    async requireUnkept() {
      const state = await client
        .withDeadline(Date.now() + QUERY_MS, () => pool.query<PoolState>(POOL.state))
        .catch(() => null);
      const run = state?.kept?.[host.name];
      if (run !== undefined) throw refuse(`is kept for the gang of run ${run}, which waits; another host takes this`);
    },
    async whileAway(work) {
      if (granted > 0) throw refuse('trains in a gang; another host takes this');
      away++;
      void tellWhereabouts();
      try {
        return await work();
      } finally {
        away--;
        void tellWhereabouts();
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
