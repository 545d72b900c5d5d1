// A run's status read from its history alone: the words of the six stages are the ids of the activities.
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

function specOf(events: HistoryEvent[]): Spec | null {
  try {
    return parseSpec(argumentsOf(events)[0]);
  } catch {
    return null; // a wrong spec is why the run failed; its failure says so
  }
}

function stagesOf(events: HistoryEvent[], until: Stage): StageStatus[] {
  const scheduled = new Map<string, { stage: string; ms: number }>();
  const known = new Map<string, { state: StageState; seconds: number | null }>();
  for (const event of events) {
    const begun = event.activityTaskScheduledEventAttributes;
    if (begun?.activityId) {
      scheduled.set(String(event.eventId), { stage: begun.activityId, ms: timeMs(event) });
      known.set(begun.activityId, { state: 'running', seconds: null });
    }
    const ended = endOf(event);
    const start = ended && scheduled.get(String(ended.scheduledEventId));
    if (ended && start) known.set(start.stage, { state: ended.state, seconds: (timeMs(event) - start.ms) / 1000 });
  }
  return STAGES.map((stage, i) => {
    const found = known.get(stage) ?? {
      state: i > STAGES.indexOf(until) ? ('skipped' as const) : ('waiting' as const),
      seconds: null,
    };
    return { stage, outcome: null, ...found };
  });
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
