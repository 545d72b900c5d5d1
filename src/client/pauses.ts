// Telling a run to pause, to go on, or to take another budget: Updates of its workflow, which refuses what makes no sense.
import {
  ApplicationFailure,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client';
import { UPDATES } from '../contracts/names.ts';
import type { BudgetRequest, PauseRequest, ResumeRequest } from '../contracts/status.ts';
import type { Caller } from './connect.ts';
import { stateOf } from './description.ts';
import { ClientError } from './errors.ts';

export interface Pauses {
  /** Asks the run to save and to free its GPU; it waits until it is resumed. @throws ClientError `run_refused`, `run_not_running`. */
  pauseRun(run: string, request: PauseRequest): Promise<void>;
  /** Another budget; a run that waits for one goes on. @throws ClientError as `pauseRun`. */
  setBudget(run: string, request: BudgetRequest): Promise<void>;
}

export function createPauses(caller: Caller): Pauses {
  return {
    pauseRun: (run, request) => update(caller, run, UPDATES.pause, request),
    setBudget: (run, request) => update(caller, run, UPDATES.budget, request),
  };
}

/** @throws ClientError `run_refused` with the run's own sentence. */
export async function update(
  caller: Caller,
  run: string,
  name: (typeof UPDATES)[keyof typeof UPDATES],
  request: ResumeRequest,
): Promise<void> {
  const handle = caller.client.workflow.getHandle(run);
  const state = stateOf((await caller.call(() => handle.describe())).status.name);
  if (state !== 'running') {
    throw new ClientError('run_not_running', `Run ${run} is ${state} already; there is nothing left to ${name}.`);
  }
  try {
    await caller.call(() => handle.executeUpdate(name, { args: [request] }));
  } catch (error) {
    throw sentenceOf(error, run);
  }
}

function sentenceOf(error: unknown, run: string): unknown {
  if (error instanceof WorkflowUpdateFailedError) {
    const { cause } = error;
    return new ClientError('run_refused', cause instanceof ApplicationFailure ? cause.message : error.message, error);
  }
  if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) {
    const sentence = `No control worker takes up what run ${run} is told; \`anneal doctor\` says which parts run.`;
    return new ClientError('temporal_unavailable', sentence, error);
  }
  return error;
}
