// Starting, following, cancelling and resuming runs. The workflow id is the run id, so that a run is found by its name.
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowExecutionAlreadyStartedError, type WorkflowExecutionInfo } from '@temporalio/client';
import { defineSearchAttributeKey } from '@temporalio/common';
import type { GangSize } from '../contracts/gang-size.ts';
import { PAUSED, SEARCH_ATTRIBUTES, TASK_QUEUES, UPDATES, WORKFLOWS } from '../contracts/names.ts';
import type { Spec, SpecInput } from '../contracts/spec.ts';
import type { Progress, ResumeRequest } from '../contracts/status.ts';
import type { Caller } from './connect.ts';
import {
  describeRun,
  heldNote,
  isOpen,
  pendingActivities,
  type RunDescription,
  type RunState,
  stageProgress,
  stateOf,
} from './description.ts';
import { ClientError, isUnavailable } from './errors.ts';
import { argumentsOf, type HistoryEvent, specOf } from './history.ts';
import { update } from './pauses.ts';
import { summariseInput } from './start-summary.ts';

/** `{}` is the demo. */
export type RunInput = SpecInput | Record<string, never>;

export interface RunSummary {
  run: string;
  state: RunState;
  startedAt: string;
  closedAt: string | null;
  stage: string | null;
  model: string | null;
  progress: Progress | null;
  /** Its stage has not been taken up by a worker: others are busy, or there is none. */
  waitsForWorker: boolean;
}

/** `attached`: it was running already. `finished`: it had been completed before. */
export type StartOutcome = 'started' | 'attached' | 'finished';

export interface Runs {
  /** @throws ClientError `temporal_refused` when a run with this id is running. */
  startRun(input: RunInput, options: { runId: string }): Promise<void>;
  /** Idempotent: a running or completed run is left alone, a failed or cancelled one is started again. */
  attachOrStart(input: RunInput, options: { runId: string }): Promise<StartOutcome>;
  describeRun(run: string): Promise<RunDescription>;
  /** With every default; null where the run could not be started by it. */
  specOfRun(run: string): Promise<Spec | null>;
  /** Newest first. */
  listRuns(options?: { limit?: number }): Promise<RunSummary[]>;
  /**
   * The run's description, again and again until it has ended; the last one is its end. Outages of the server are waited out
   * and told in `note`. @throws ClientError `temporal_unavailable` after `outageMsMax`.
   */
  watchRun(run: string, options?: WatchOptions): AsyncGenerator<RunDescription, void>;
  /** @throws what `watchRun` throws. A run that fails is a result, not an error. */
  waitForRun(run: string, options?: WatchOptions): Promise<RunDescription>;
  /** Asks the run to stop; it saves a checkpoint first. @throws ClientError `run_not_running` when it has ended. */
  cancelRun(run: string): Promise<void>;
  /**
   * A paused run goes on, with another number of hosts or ranks also one that trains; an ended one starts again with the same input, and
   * the store remembers the stages that are done.
   * @throws ClientError `run_not_resumable`, and `run_refused` when its budget leaves nothing or it cannot go on with so many.
   */
  resumeRun(run: string, request?: ResumeRequest): Promise<void>;
}

export interface WatchOptions {
  /** Time between looks, ms. */
  intervalMs?: number;
  /** How long the server may be away, ms. */
  outageMsMax?: number;
  signal?: AbortSignal;
}

/** Between looks, ms: below what a person notices, above what costs the server anything. */
export const WATCH_INTERVAL_MS = 1_000;
/** Longer than a server's restart or a fail-over takes. */
const OUTAGE_MS_MAX = 10 * 60_000;
const LIST_MAX = 20;

export function createRuns(caller: Caller): Runs {
  const watch = (run: string, options?: WatchOptions) => watchRun(caller, run, options);
  return {
    startRun: (input, { runId }) => startRun(caller, input, runId),
    attachOrStart: (input, { runId }) => attachOrStart(caller, input, runId),
    describeRun: (run) => describeRun(caller, run),
    specOfRun: async (run) => specOf(await historyOf(caller, run)),
    listRuns: (options) => listRuns(caller, options?.limit ?? LIST_MAX),
    watchRun: watch,
    waitForRun: async (run, options) => {
      let last: RunDescription | null = null;
      for await (last of watch(run, options));
      return last as unknown as RunDescription;
    },
    cancelRun: (run) => cancelRun(caller, run),
    resumeRun: (run, request) => resumeRun(caller, run, request ?? {}),
  };
}

async function startRun(caller: Caller, input: unknown, runId: string, size: Partial<GangSize> = {}): Promise<void> {
  await caller.call(() =>
    caller.client.workflow.start(WORKFLOWS.fineTune, {
      workflowId: runId,
      taskQueue: TASK_QUEUES.control,
      args: Object.keys(size).length === 0 ? [input] : [input, null, size],
      ...summariseInput(input),
      workflowIdReusePolicy: 'ALLOW_DUPLICATE_FAILED_ONLY',
      workflowIdConflictPolicy: 'FAIL',
    }),
  );
}

async function attachOrStart(caller: Caller, input: unknown, runId: string): Promise<StartOutcome> {
  try {
    await startRun(caller, input, runId);
    return 'started';
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    const described = await caller.call(() => caller.client.workflow.getHandle(runId).describe());
    return described.status.name === 'COMPLETED' ? 'finished' : 'attached';
  }
}

async function* watchRun(
  caller: Caller,
  run: string,
  options: WatchOptions = {},
): AsyncGenerator<RunDescription, void> {
  const { intervalMs = WATCH_INTERVAL_MS, outageMsMax = OUTAGE_MS_MAX, signal } = options;
  let last: RunDescription | null = null;
  let outageSince: number | null = null;
  for (;;) {
    try {
      last = await describeRun(caller, run);
      outageSince = null;
      yield last;
      if (!isOpen(last.state)) return;
    } catch (error) {
      if (last === null || !isUnavailable(error)) throw error;
      outageSince ??= Date.now();
      const seconds = Math.round((Date.now() - outageSince) / 1000);
      if (seconds * 1000 > outageMsMax) throw error;
      yield { ...last, note: `The Temporal server has not answered for ${seconds} s; asking again.` };
    }
    await sleep(intervalMs, undefined, { signal });
  }
}

async function listRuns(caller: Caller, limit: number): Promise<RunSummary[]> {
  const found: WorkflowExecutionInfo[] = [];
  await caller.call(async () => {
    const query = `WorkflowType = '${WORKFLOWS.fineTune}'`;
    for await (const execution of caller.client.workflow.list({ query, pageSize: limit })) {
      found.push(execution);
      if (found.length >= limit) break;
    }
  });
  return Promise.all(found.map((execution) => summariseRun(caller, execution)));
}

async function summariseRun(caller: Caller, execution: WorkflowExecutionInfo): Promise<RunSummary> {
  const attribute = (name: string) =>
    execution.typedSearchAttributes.get(defineSearchAttributeKey(name, 'KEYWORD')) ?? null;
  const running = execution.status.name === 'RUNNING';
  const isPaused = running && attribute(SEARCH_ATTRIBUTES.stage) === PAUSED;
  const handle = caller.client.workflow.getHandle(execution.workflowId, execution.runId);
  const pending = running ? pendingActivities(await caller.call(() => handle.describe())) : [];
  return {
    run: execution.workflowId,
    state: isPaused ? 'paused' : stateOf(execution.status.name),
    startedAt: execution.startTime.toISOString(),
    closedAt: execution.closeTime?.toISOString() ?? null,
    // Only a training can be paused.
    stage: isPaused ? 'train' : attribute(SEARCH_ATTRIBUTES.stage),
    model: attribute(SEARCH_ATTRIBUTES.model),
    progress: stageProgress(pending),
    waitsForWorker: pending.length > 0 && pending.every(({ state }) => state === 'waiting'),
  };
}

async function cancelRun(caller: Caller, run: string): Promise<void> {
  const handle = caller.client.workflow.getHandle(run);
  const state = stateOf((await caller.call(() => handle.describe())).status.name);
  if (state !== 'running') {
    throw new ClientError('run_not_running', `Run ${run} is ${state} already; there is nothing left to stop.`);
  }
  await caller.call(() => handle.cancel());
}

async function resumeRun(caller: Caller, run: string, request: ResumeRequest): Promise<void> {
  const { hosts, processes } = request;
  const wanted = { ...(hosts && { hosts }), ...(processes && { processes }) };
  const isResized = Object.keys(wanted).length > 0;
  const handle = caller.client.workflow.getHandle(run);
  const { status } = await caller.call(() => handle.describe());
  if (status.name === 'RUNNING') {
    const { status: said, pending } = await describeRun(caller, run);
    if (isResized || said.paused) return await update(caller, run, UPDATES.resume, request);
    const held = heldNote(pending);
    if (held !== null) throw new ClientError('run_not_resumable', held);
    throw new ClientError('run_not_resumable', `Run ${run} is still running; follow it with \`anneal watch ${run}\`.`);
  }
  if (status.name === 'COMPLETED') {
    throw new ClientError('run_not_resumable', `Run ${run} is complete; there is nothing left to resume.`);
  }
  const { size } = (await describeRun(caller, run)).status;
  await startRun(caller, argumentsOf(await historyOf(caller, run))[0], run, { ...size, ...wanted });
}

async function historyOf(caller: Caller, run: string): Promise<HistoryEvent[]> {
  return (await caller.call(() => caller.client.workflow.getHandle(run).fetchHistory())).events ?? [];
}
