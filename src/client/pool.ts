// The GPU pool: who has which hosts, who waits, and what teams may hold.
import { WithStartWorkflowOperation, type Workflow, WorkflowNotFoundError } from '@temporalio/client';
import { POOL, TASK_QUEUES, WORKFLOWS } from '../contracts/names.ts';
import type { PoolState, QuotaChange } from '../contracts/pool.ts';
import type { Caller } from './connect.ts';
import { ClientError } from './errors.ts';

export interface Pool {
  /** Empty where no GPU worker has ever registered. */
  describe(): Promise<PoolState>;
  setQuota(change: QuotaChange): Promise<PoolState>;
}

export function createPool(caller: Caller): Pool {
  const { workflow } = caller.client;
  return {
    async describe() {
      try {
        return await caller.call(() => workflow.getHandle(POOL.id).query<PoolState>(POOL.state));
      } catch (error) {
        if (!isUnknown(error)) throw error;
        return { hosts: [], waiting: [], grants: [], quotas: {} };
      }
    },
    setQuota: (change) =>
      caller.call(() =>
        workflow.executeUpdateWithStart<Workflow, PoolState, [QuotaChange]>(POOL.setQuota, {
          args: [change],
          startWorkflowOperation: new WithStartWorkflowOperation(WORKFLOWS.gpuPool, {
            workflowId: POOL.id,
            taskQueue: TASK_QUEUES.control,
            args: [{}],
            workflowIdConflictPolicy: 'USE_EXISTING',
          }),
        }),
      ),
  };
}

function isUnknown(error: unknown): boolean {
  return error instanceof WorkflowNotFoundError || (error instanceof ClientError && error.kind === 'run_not_found');
}
