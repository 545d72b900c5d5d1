// A run's status read from its history alone: the ids of the activities are the words of the six stages, or begin with one.
import { defaultPayloadConverter } from '@temporalio/client';
import { STAGES, type Stage } from '../contracts/names.ts';
import { parseSpec, type Spec } from '../contracts/spec.ts';
import type { RunStatus, StageState, StageStatus } from '../contracts/status.ts';

type Payload = Parameters<typeof defaultPayloadConverter.fromPayload>[0];
type Long = { toString(): string };

/** The part of Temporal's history event that is read here. */
export interface HistoryEvent {
  eventTime?: { seconds?: Long | number | null; nanos?: number | null } | null;
  workflowExecutionStartedEventAttributes?: { input?: { payloads?: Payload[] | null } | null } | null;
  activityTaskScheduledEventAttributes?: { activityId?: string | null } | null;
  eventId?: Long | number | null;
  activityTaskCompletedEventAttributes?: ActivityEnd | null;
  activityTaskFailedEventAttributes?: ActivityEnd | null;
  activityTaskTimedOutEventAttributes?: ActivityEnd | null;
  activityTaskCanceledEventAttributes?: ActivityEnd | null;
}
interface ActivityEnd {
  scheduledEventId?: Long | number | null;
}

/** The arguments that the workflow was started with. */
export function argumentsOf(events: HistoryEvent[]): unknown[] {
  const payloads = events.find((e) => e.workflowExecutionStartedEventAttributes)
    ?.workflowExecutionStartedEventAttributes?.input?.payloads;
  return (payloads ?? []).map((payload) => defaultPayloadConverter.fromPayload(payload));
}

export function statusFromHistory(run: string, events: HistoryEvent[]): RunStatus {
  const spec = specOf(events);
  return {
    run,
    name: spec?.name ?? run,
    model: spec?.register.model ?? spec?.name ?? run,
    stages: stagesOf(events, spec?.until ?? 'deploy'),
    data: null,
    evaluation: null,
    training: null,
    version: null,
    endpoint: null,
    failure: null,
  };
}

/** The run's spec with every default, or null where it is wrong. */
export function specOf(events: HistoryEvent[]): Spec | null {
  try {
    return parseSpec(argumentsOf(events)[0]);
  } catch {
    return null; // a wrong spec is why the run failed; its failure says so
  }
}

function stagesOf(events: HistoryEvent[], until: Stage): StageStatus[] {
  const scheduled = new Map<string, string>();
  const known = new Map<string, KnownStage>();
  for (const event of events) {
    const begun = event.activityTaskScheduledEventAttributes?.activityId;
    if (begun) {
      scheduled.set(String(event.eventId), begun);
      const stage = stageOf(begun);
      const earlier = stage === begun ? undefined : known.get(stage);
      known.set(stage, { startedMs: earlier?.startedMs ?? timeMs(event), state: 'running', seconds: null });
    }
    const ended = endOf(event);
    const activity = ended && scheduled.get(String(ended.scheduledEventId));
    if (ended && activity) noteEnd(known, activity, ended.state, timeMs(event));
  }
  return STAGES.map((stage, i) => {
    const isBehind = i > STAGES.indexOf(until);
    const { state, seconds } = known.get(stage) ?? { state: isBehind ? 'skipped' : 'waiting', seconds: null };
    // A stage of several activities is over when the next one has begun.
    const isOver = state === 'running' && STAGES.slice(i + 1).some((later) => known.has(later));
    return { stage, outcome: null, state: isOver ? 'done' : state, seconds };
  });
}

interface KnownStage {
  startedMs: number;
  state: StageState;
  seconds: number | null;
}

/** The last of the activities of which a stage may consist. */
const LAST_PARTS: readonly string[] = ['preprocess-finish'];

function stageOf(activity: string): string {
  return /^preprocess-/.test(activity) ? 'preprocess' : activity;
}

function noteEnd(known: Map<string, KnownStage>, activity: string, state: StageState, ms: number): void {
  const stage = stageOf(activity);
  const before = known.get(stage);
  const isPart = stage !== activity && !LAST_PARTS.includes(activity) && state === 'done';
  if (before && !isPart) known.set(stage, { ...before, state, seconds: (ms - before.startedMs) / 1000 });
}

function endOf(event: HistoryEvent): { scheduledEventId: unknown; state: StageState } | null {
  const done = event.activityTaskCompletedEventAttributes;
  if (done) return { scheduledEventId: done.scheduledEventId, state: 'done' };
  const failed =
    event.activityTaskFailedEventAttributes ??
    event.activityTaskTimedOutEventAttributes ??
    event.activityTaskCanceledEventAttributes;
  return failed ? { scheduledEventId: failed.scheduledEventId, state: 'failed' } : null;
}

function timeMs(event: HistoryEvent): number {
  return Number(event.eventTime?.seconds ?? 0) * 1000 + (event.eventTime?.nanos ?? 0) / 1e6;
}
