// Periodic retraining: Temporal schedules that start the Retraining workflow.
import type { ScheduleSpec, WorkflowHandle } from '@temporalio/client';
import { TASK_QUEUES, WORKFLOWS } from '../contracts/names.ts';
import { parseSpec, type SpecInput } from '../contracts/spec.ts';
import type { RetrainingResult } from '../contracts/status.ts';
import type { Caller } from './connect.ts';
import { describeRun, failureOf, type RunState, stateOf } from './description.ts';
import { ClientError } from './errors.ts';
import { summariseInput } from './start-summary.ts';

export interface ScheduleSummary {
  id: string;
  paused: boolean;
  note: string | null;
  /** Such as `every 1 d` or the calendar's comment. */
  when: string;
  nextAt: string | null;
  lastAt: string | null;
  /** Workflow id of the newest start. */
  lastWorkflow: string | null;
  lastOutcome: TriggerOutcome | null;
}

/** What became of a start. */
export interface TriggerOutcome {
  state: RunState;
  /** Run that it started or found done; null until that is known. */
  run: string | null;
  /** Why it trained nothing, failed or is paused; null where it did none of it. */
  why: string | null;
}

export interface Schedules {
  /** @throws ClientError `schedule_exists`, AnnealError `bad_request` with every problem of the spec. */
  create(options: { id: string; spec: SpecInput; every?: string; cron?: string; paused?: boolean }): Promise<void>;
  list(): Promise<ScheduleSummary[]>;
  /** Starts one now, unless the last one is still running. */
  trigger(id: string): Promise<void>;
  pause(id: string, note?: string): Promise<void>;
  unpause(id: string, note?: string): Promise<void>;
  delete(id: string): Promise<void>;
}

/** A start missed for longer than this is left out; the server's own default is one year of them. */
const CATCHUP_WINDOW = '1 hour';
const LIST_MAX = 100;

export function createSchedules(caller: Caller): Schedules {
  const { schedule } = caller.client;
  return {
    create: async ({ id, spec, every, cron, paused }) => {
      // Now, not at three in the morning.
      parseSpec(spec);
      await caller.call(() =>
        schedule.create({
          scheduleId: id,
          spec: timesOf(every, cron),
          policies: { overlap: 'SKIP', catchupWindow: CATCHUP_WINDOW },
          state: { paused: paused ?? false },
          action: {
            type: 'startWorkflow',
            workflowType: WORKFLOWS.retraining,
            workflowId: `retraining-${id}`,
            taskQueue: TASK_QUEUES.control,
            args: [{ spec, schedule: id }],
            ...summariseInput(spec),
          },
        }),
      );
    },
    list: () => listSchedules(caller),
    // The SDK's own default is to start another one beside a running one.
    trigger: (id) => caller.call(() => schedule.getHandle(id).trigger('SKIP')),
    pause: (id, note) => caller.call(() => schedule.getHandle(id).pause(note ?? 'paused by `anneal schedule pause`')),
    unpause: (id, note) =>
      caller.call(() => schedule.getHandle(id).unpause(note ?? 'unpaused by `anneal schedule unpause`')),
    delete: (id) => caller.call(() => schedule.getHandle(id).delete()),
  };
}

function timesOf(every?: string, cron?: string): ScheduleSpec {
  if (cron !== undefined) return { cronExpressions: [cron] };
  return { intervals: [{ every: every as `${number} d` }] };
}

async function listSchedules(caller: Caller): Promise<ScheduleSummary[]> {
  const listed = await readSchedules(caller);
  return await Promise.all(
    listed.map(async ({ execution, ...summary }) => ({
      ...summary,
      lastOutcome: execution === null ? null : await outcomeOf(caller, execution),
    })),
  );
}

interface Execution {
  workflowId: string;
  firstExecutionRunId: string;
}

type Listed = Omit<ScheduleSummary, 'lastOutcome'> & { execution: Execution | null };

async function readSchedules(caller: Caller): Promise<Listed[]> {
  const found: Listed[] = [];
  await caller.call(async () => {
    for await (const one of caller.client.schedule.list({ pageSize: LIST_MAX })) {
      const last = one.info.recentActions.at(-1);
      found.push({
        id: one.scheduleId,
        paused: one.state.paused,
        note: one.state.note ?? null,
        when: describeTimes(one.spec),
        nextAt: one.info.nextActionTimes[0]?.toISOString() ?? null,
        lastAt: last?.takenAt.toISOString() ?? null,
        lastWorkflow: last?.action.workflow.workflowId ?? null,
        execution: last?.action.workflow ?? null,
      });
      if (found.length >= LIST_MAX) break;
    }
  });
  return found;
}

/** null when Temporal has forgotten it. */
async function outcomeOf(
  caller: Caller,
  { workflowId, firstExecutionRunId }: Execution,
): Promise<TriggerOutcome | null> {
  const handle = caller.client.workflow.getHandle(workflowId, firstExecutionRunId);
  try {
    const described = await caller.call(() => handle.describe());
    const state = stateOf(described.status.name);
    if (state === 'running') return await outcomeSoFar(caller, described.raw.pendingChildren?.[0]?.workflowId ?? null);
    if (state !== 'completed') return { state, run: null, why: await failureSentence(caller, handle) };
    const { run, skipped } = (await caller.call(() => handle.result())) as RetrainingResult;
    return { state, run, why: skipped };
  } catch (error) {
    if (error instanceof ClientError && error.kind === 'run_not_found') return null;
    throw error;
  }
}

/** A run that waits for people holds its schedule up: nothing is started beside it. */
async function outcomeSoFar(caller: Caller, run: string | null): Promise<TriggerOutcome> {
  if (run === null) return { state: 'running', run, why: null };
  const { state, status } = await describeRun(caller, run);
  return { state: state === 'paused' ? state : 'running', run, why: status.paused?.why ?? null };
}

async function failureSentence(caller: Caller, handle: WorkflowHandle): Promise<string | null> {
  const error: unknown = await caller.call(() => handle.result()).catch((failure: unknown) => failure);
  return failureOf(error)?.message ?? null;
}

function describeTimes(
  spec: { intervals?: { every: number }[]; calendars?: { comment?: string }[] } | undefined,
): string {
  const interval = spec?.intervals?.[0];
  if (interval) return `every ${describeMs(interval.every)}`;
  const comment = spec?.calendars?.[0]?.comment;
  return comment ? `cron ${comment}` : 'by calendar';
}

function describeMs(ms: number): string {
  for (const [unit, size] of [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
  ] as const) {
    if (ms % size === 0) return `${ms / size} ${unit}`;
  }
  return `${ms / 1000} s`;
}
