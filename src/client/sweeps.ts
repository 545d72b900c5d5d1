// Starting and following sweeps. The workflow id is the sweep's id; its trials are runs.
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { STATUS_QUERY, TASK_QUEUES, WORKFLOWS } from '../contracts/names.ts';
import type { SweepStatus } from '../contracts/status.ts';
import type { SweepInput } from '../contracts/sweep.ts';
import type { Caller } from './connect.ts';
import { failureOf, type RunState, stateOf } from './description.ts';
import { isUnavailable } from './errors.ts';
import { type StartOutcome, WATCH_INTERVAL_MS, type WatchOptions } from './runs.ts';

export interface SweepDescription {
  sweep: string;
  state: RunState;
  startedAt: string;
  closedAt: string | null;
  /** null while its control worker does not answer. */
  status: SweepStatus | null;
  failure: { kind: string; message: string } | null;
}

export interface Sweeps {
  /** Idempotent, as `attachOrStart` is for runs. */
  startSweep(input: SweepInput, options: { sweepId: string }): Promise<StartOutcome>;
  describeSweep(sweep: string): Promise<SweepDescription>;
  /** Again and again until it has ended; the last one is its end. */
  watchSweep(sweep: string, options?: WatchOptions): AsyncGenerator<SweepDescription, void>;
  /** @throws ClientError `run_not_found`. */
  isSweep(id: string): Promise<boolean>;
}

/** How long the workflow may take to answer, ms. */
const QUERY_MS_MAX = 3_000;
/** Of the API's 400 bytes, characters. */
const SUMMARY_CHARACTERS_MAX = 130;

export function createSweeps(caller: Caller): Sweeps {
  return {
    startSweep: (input, { sweepId }) => startSweep(caller, input, sweepId),
    describeSweep: (sweep) => describeSweep(caller, sweep),
    watchSweep: (sweep, options) => watchSweep(caller, sweep, options),
    isSweep: async (id) => {
      const described = await caller.call(() => caller.client.workflow.getHandle(id).describe());
      return described.type === WORKFLOWS.sweep;
    },
  };
}

async function startSweep(caller: Caller, input: SweepInput, sweepId: string): Promise<StartOutcome> {
  try {
    await caller.call(() =>
      caller.client.workflow.start(WORKFLOWS.sweep, {
        workflowId: sweepId,
        taskQueue: TASK_QUEUES.control,
        args: [input],
        staticSummary: `${input.name}: sweep`.slice(0, SUMMARY_CHARACTERS_MAX),
        workflowIdReusePolicy: 'ALLOW_DUPLICATE_FAILED_ONLY',
        workflowIdConflictPolicy: 'FAIL',
      }),
    );
    return 'started';
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    const described = await caller.call(() => caller.client.workflow.getHandle(sweepId).describe());
    return described.status.name === 'COMPLETED' ? 'finished' : 'attached';
  }
}

async function describeSweep(caller: Caller, sweep: string): Promise<SweepDescription> {
  const handle = caller.client.workflow.getHandle(sweep);
  const described = await caller.call(() => handle.describe());
  const state = stateOf(described.status.name);
  const status = await caller
    .call(() => handle.query<SweepStatus>(STATUS_QUERY), QUERY_MS_MAX)
    .catch((error: unknown) => {
      if (isUnavailable(error)) return null;
      throw error;
    });
  const isOpen = state === 'running';
  const failure =
    isOpen || state === 'completed' ? null : await caller.call(() => handle.result()).then(() => null, failureOf);
  return {
    ...{ sweep, state, status, failure },
    startedAt: described.startTime.toISOString(),
    closedAt: described.closeTime?.toISOString() ?? null,
  };
}

async function* watchSweep(
  caller: Caller,
  sweep: string,
  { intervalMs = WATCH_INTERVAL_MS, signal }: WatchOptions = {},
): AsyncGenerator<SweepDescription, void> {
  for (;;) {
    const description = await describeSweep(caller, sweep);
    yield description;
    if (description.state !== 'running') return;
    await sleep(intervalMs, undefined, { signal });
  }
}
