// What workflows need of the control worker for gangs of several hosts: talk to the GPU pool, find ended workflows, judge deaths.
import { getClient } from '@temporalio/activity';
import { WorkflowNotFoundError } from '@temporalio/client';
import { AnnealError } from '../contracts/failure.ts';
import type { GangWish, JudgeInput } from '../contracts/gang.ts';
import { POOL, TASK_QUEUES, WORKFLOWS } from '../contracts/names.ts';
import type { HostRelease, HostRequest } from '../contracts/pool.ts';
import { type DeathOnRecord, decideRecovery } from '../trainer/recovery-policy.ts';
import { toFailure } from './stage.ts';

type Told = { signal: 'requestHosts'; about: HostRequest } | { signal: 'releaseHosts'; about: HostRelease };

interface Holder {
  id: string;
  workflowId: string;
  workflowRunId: string;
}

/** Starts the pool where there is none. */
export async function tellPool({ signal, about }: Told): Promise<void> {
  await getClient().workflow.signalWithStart(WORKFLOWS.gpuPool, {
    workflowId: POOL.id,
    taskQueue: TASK_QUEUES.control,
    args: [{}],
    signal: POOL[signal],
    signalArgs: [about],
  });
}

/** The ids of those whose workflows have ended or are not known any more. */
export async function findEnded(holders: Holder[]): Promise<string[]> {
  const ended: string[] = [];
  for (const { id, workflowId, workflowRunId } of holders) {
    if (await hasEnded(workflowId, workflowRunId)) ended.push(id);
  }
  return ended;
}

async function hasEnded(workflowId: string, runId: string): Promise<boolean> {
  try {
    const { status } = await getClient().workflow.getHandle(workflowId, runId).describe();
    return status.name !== 'RUNNING' && status.name !== 'PAUSED';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return true;
    throw error;
  }
}

/** What a gang does after its deaths. Fails with the kind of the last one when repeating is pointless. */
export async function judgeDeaths({ spec, deaths, microBatch }: JudgeInput): Promise<GangWish> {
  try {
    return decideWish(deaths as DeathOnRecord[], { ...spec.train, microBatch });
  } catch (error) {
    throw toFailure(error);
  }
}

function decideWish(deaths: DeathOnRecord[], recipe: Parameters<typeof decideRecovery>[1]): GangWish {
  const newest: GangWish = { below: null, factor: 1, isWarmOk: true };
  const step = decideRecovery(deaths, recipe);
  const from = deaths.at(-1)?.from ?? 0;
  switch (step.action) {
    case 'restarted':
    case 'disk_freed':
      return newest;
    case 'replayed':
      return { ...newest, isWarmOk: false };
    case 'older_checkpoint':
    case 'state_dropped':
      return { ...newest, below: from };
    case 'smaller_batch':
      return { ...newest, factor: step.factor };
    case 'stopped':
      throw step.error;
    default:
      step satisfies never;
      throw new AnnealError('trainer_bug', 'A recovery has no meaning for a gang; report it.');
  }
}
