// Lines of Temporal's SDK, and of activities through it, in our own log: each that belongs to a run carries run, stage and attempt.
import type { Logger } from '@temporalio/worker';
import type { Log, LogLevel } from '../telemetry/log.ts';

/** What the worker's name, the run and the stage say already. */
const LEFT_OUT = [
  'activityType',
  'isLocal',
  'namespace',
  'runId',
  'sdkComponent',
  'taskQueue',
  'taskToken',
  'workflowRunId',
  'workflowType',
];

export function createSdkLogger(log: Log): Logger {
  const write = (level: LogLevel) => (message: string, meta?: Record<string, unknown>) =>
    log[level](message, fieldsOf(meta ?? {}));
  return {
    log: (level, message, meta) =>
      write(level === 'ERROR' ? 'error' : level === 'WARN' ? 'warn' : 'info')(message, meta),
    trace: () => undefined,
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  };
}

/** The workflow's id is the run's, the activity's id is the stage, or the stage and a part of it (`preprocess-clean-3`). */
function fieldsOf({ workflowId, activityId, attempt, ...rest }: Record<string, unknown>): Record<string, unknown> {
  const kept = Object.entries(rest).filter(([name]) => !LEFT_OUT.includes(name));
  return {
    ...(workflowId !== undefined && { run: workflowId }),
    ...(activityId !== undefined && { ...stageOf(String(activityId)), attempt }),
    ...Object.fromEntries(kept.map(([name, value]) => [name, plain(value)])),
  };
}

function stageOf(activityId: string): { stage: string; activity?: string } {
  const [, stage, activity] = /^(preprocess)-(.+)$/.exec(activityId) ?? [];
  return stage === undefined || activity === undefined ? { stage: activityId } : { stage, activity };
}

function plain(value: unknown): unknown {
  if (value instanceof Error) return value.message;
  return typeof value === 'bigint' ? String(value) : value;
}
