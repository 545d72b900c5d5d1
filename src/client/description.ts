// What can be known of a run from outside: the workflow's own answer, what its activities report, and Temporal's record.
// When no worker answers, the history alone is read, so that a run can be looked at while everything else is down.
import {
  ApplicationFailure,
  defaultPayloadConverter,
  type WorkflowExecutionDescription,
  WorkflowFailedError,
  type WorkflowHandle,
} from '@temporalio/client';
import { isFailureKind } from '../contracts/failure.ts';
import { STAGES, STATUS_QUERY, WORKFLOWS } from '../contracts/names.ts';
import type { Progress, RunStatus } from '../contracts/status.ts';
import type { Caller } from './connect.ts';
import { isUnavailable } from './errors.ts';
import { type HistoryEvent, statusFromHistory } from './history.ts';

/** `paused`: its training waits to be resumed; Temporal calls that running. */
export type RunState = 'running' | 'paused' | 'completed' | 'failed' | 'cancelled' | 'terminated' | 'timed out';

/** An activity that was scheduled and has not ended. */
export interface PendingActivity {
  activity: string;
  attempt: number;
  state: 'waiting' | 'running' | 'cancelling' | 'paused';
  worker: string | null;
  /** The sentence that the attempt before ended with. */
  lastFailure: string | null;
  progress: Progress | null;
}

export interface RunDescription {
  run: string;
  /** Temporal's id of this execution; a resumed run has another under the same run id. */
  execution: string;
  state: RunState;
  startedAt: string;
  closedAt: string | null;
  status: RunStatus;
  pending: PendingActivity[];
  /** Newest progress of the stage that runs, at most a heartbeat interval old. */
  progress: Progress | null;
  /** What limits this description, such as a worker that does not answer. */
  note: string | null;
}

/** How long the workflow may take to answer, ms; a loaded worker takes below 500, a dead one for ever. */
const QUERY_MS_MAX = 3_000;

const RUN_STATES: Record<string, RunState> = {
  RUNNING: 'running',
  PAUSED: 'running',
  CONTINUED_AS_NEW: 'running',
  COMPLETED: 'completed',
  FAILED: 'failed',
  CANCELLED: 'cancelled',
  TERMINATED: 'terminated',
  TIMED_OUT: 'timed out',
};

/** By the server's number: unspecified, scheduled, started, cancel requested, paused, pause requested. */
const ACTIVITY_STATES = ['waiting', 'waiting', 'running', 'cancelling', 'paused', 'paused'] as const;

export function isOpen(state: RunState): boolean {
  return state === 'running' || state === 'paused';
}

export function stateOf(temporalStatus: string): RunState {
  return RUN_STATES[temporalStatus] ?? 'running';
}

export async function describeRun(caller: Caller, run: string): Promise<RunDescription> {
  const handle = caller.client.workflow.getHandle(run);
  const described = await caller.call(() => handle.describe());
  const state = stateOf(described.status.name);
  const { status, note } = await readStatus(caller, handle, state);
  const pending = [...pendingActivities(described), ...(await gangActivities(caller, described))];
  const isPaused = state === 'running' && status.paused?.isSaving === false;
  return {
    run,
    execution: described.runId,
    state: isPaused ? 'paused' : state,
    startedAt: described.startTime.toISOString(),
    closedAt: described.closeTime?.toISOString() ?? null,
    status: state === 'running' ? status : await closeStatus(caller, handle, state, status),
    pending,
    progress: stageProgress(pending),
    note: note ?? heldNote(pending) ?? pauseNote(status),
  };
}

export function pendingActivities(described: WorkflowExecutionDescription): PendingActivity[] {
  return (described.raw.pendingActivities ?? []).map((activity) => ({
    activity: activity.activityId ?? '',
    attempt: activity.attempt ?? 1,
    state: ACTIVITY_STATES[activity.state ?? 0] ?? 'waiting',
    worker: activity.lastWorkerIdentity || null,
    lastFailure: activity.lastFailure?.message || null,
    progress: decodeProgress(activity.heartbeatDetails?.payloads?.[0]),
  }));
}

/** Of the workflow that trains on several hosts for this one. */
async function gangActivities(caller: Caller, described: WorkflowExecutionDescription): Promise<PendingActivity[]> {
  const gang = described.raw.pendingChildren?.find((child) => child.workflowTypeName === WORKFLOWS.trainingGang);
  if (!gang?.workflowId) return [];
  const handle = caller.client.workflow.getHandle(gang.workflowId);
  return pendingActivities(await caller.call(() => handle.describe()));
}

export function stageProgress(pending: PendingActivity[]): Progress | null {
  // On several hosts it is the first that reports.
  const reports = ({ activity }: PendingActivity) =>
    (STAGES as readonly string[]).includes(activity) || /^(train-\d+-0|preprocess-.+)$/.test(activity);
  return pending.find((one) => reports(one) && one.progress !== null)?.progress ?? null;
}

function decodeProgress(
  payload: Parameters<typeof defaultPayloadConverter.fromPayload>[0] | undefined,
): Progress | null {
  if (!payload) return null;
  const value: unknown = defaultPayloadConverter.fromPayload(payload);
  return typeof value === 'object' && value !== null && 'stage' in value ? (value as Progress) : null;
}

function pauseNote({ run, paused }: RunStatus): string | null {
  if (!paused) return null;
  const { kind, isSaving, since, by, why } = paused;
  if (isSaving) return `Asked to pause by ${by} (${why}); it is saving.`;
  const who = kind === 'requested' ? ` by ${by}` : '';
  const how = kind === 'budget_reached' ? '' : ` \`anneal resume ${run}\` goes on.`;
  return `Paused${who} since ${since}: ${why.replace(/\.?$/, '.')}${how}`;
}

/** What to do about a stage that the Web UI's own button has paused, or null. */
export function heldNote(pending: PendingActivity[]): string | null {
  const paused = pending.find((p) => p.state === 'paused');
  if (paused) return `Stage ${paused.activity} was paused by an operator; unpause it in the Web UI.`;
  return null;
}

/** A completed run's result lies in its history; a running one is asked; where nobody answers, the history is read. */
async function readStatus(
  caller: Caller,
  handle: WorkflowHandle,
  state: RunState,
): Promise<{ status: RunStatus; note: string | null }> {
  if (state === 'completed') {
    const result: unknown = await caller.call(() => handle.result());
    if (isRunStatus(result)) return { status: result, note: null };
  }
  try {
    const status = await caller.call(() => handle.query<RunStatus>(STATUS_QUERY), QUERY_MS_MAX);
    return { status, note: null };
  } catch (error) {
    const status = statusFromHistory(handle.workflowId, await readHistory(caller, handle));
    const why = isUnavailable(error) ? 'No control worker answers' : 'The workflow does not answer its status query';
    return { status, note: `${why}; this is what Temporal's history says.` };
  }
}

async function readHistory(caller: Caller, handle: WorkflowHandle): Promise<HistoryEvent[]> {
  return (await caller.call(() => handle.fetchHistory())).events ?? [];
}

/** Adds why it ended to what was known: the query's answer lacks it when the workflow did not end by itself. */
async function closeStatus(
  caller: Caller,
  handle: WorkflowHandle,
  state: RunState,
  status: RunStatus,
): Promise<RunStatus> {
  if (state === 'completed' || (status.failure && status.failure.kind !== 'trainer_bug')) return status;
  if (state !== 'failed') {
    const message = state === 'cancelled' ? 'The run was cancelled.' : `The run was ${state} by the Temporal server.`;
    return { ...status, failure: { kind: 'cancelled', message } };
  }
  const error = await caller
    .call(() => handle.result())
    .then(
      () => null,
      (e: unknown) => e,
    );
  return { ...status, failure: failureOf(error) ?? status.failure };
}

/** The innermost failure with a kind: activities and workflows wrap it in failures of their own. */
export function failureOf(error: unknown): RunStatus['failure'] {
  let found: RunStatus['failure'] = null;
  const start = error instanceof WorkflowFailedError ? error.cause : error;
  for (let e: unknown = start; e instanceof Error; e = e.cause) {
    if (e instanceof ApplicationFailure && isFailureKind(e.type)) found = { kind: e.type, message: e.message };
    else found ??= { kind: 'trainer_bug', message: e.message };
  }
  return found;
}

function isRunStatus(value: unknown): value is RunStatus {
  return typeof value === 'object' && value !== null && 'stages' in value;
}
