// The one table of task queues, timeouts and retries. Nothing here counts attempts: the kind of a failure decides whether it is the last
// (contracts/failure.ts).
import type { ActivityOptions } from '@temporalio/workflow';
import { FINAL_KINDS } from '../contracts/failure.ts';
import { TASK_QUEUES } from '../contracts/names.ts';

/** After a death, which the heartbeat timeout has already waited for; an activity that fails says itself how long to wait. */
const retry: ActivityOptions['retry'] = {
  initialInterval: '1s',
  backoffCoefficient: 1,
  nonRetryableErrorTypes: [...FINAL_KINDS],
};

/**
 * `WAIT_CANCELLATION_COMPLETED`: without it a cancelled workflow closes, and a successor may start, while a child process still owns the GPU.
 * A heartbeat timeout of 30 s with reports every second makes an outage of the server of up to about 25 s a non-event.
 */
const shared = { retry, cancellationType: 'WAIT_CANCELLATION_COMPLETED' } satisfies ActivityOptions;

export const STAGE_OPTIONS = {
  /** Reads a spec, and asks the pool for its hosts. */
  check: { ...shared, taskQueue: TASK_QUEUES.control, startToCloseTimeout: '1m' },
  /** Copies terabytes at worst. */
  data: { ...shared, taskQueue: TASK_QUEUES.data, startToCloseTimeout: '2 days', heartbeatTimeout: '30s' },
  /** Reads headers and asks the pool. One try: whoever waits for the answer does without it. */
  size: {
    ...shared,
    retry: { maximumAttempts: 1 },
    taskQueue: TASK_QUEUES.data,
    startToCloseTimeout: '5s',
    scheduleToStartTimeout: '3s',
  },
  /** One attempt of a week-long training. */
  gpu: { ...shared, taskQueue: TASK_QUEUES.gpu, startToCloseTimeout: '30 days', heartbeatTimeout: '30s' },
  /** Writes records, waits for the gateway to load a model. */
  control: { ...shared, taskQueue: TASK_QUEUES.control, startToCloseTimeout: '1 hour', heartbeatTimeout: '30s' },
  /** Asks the server and decides: no data. */
  pool: { ...shared, taskQueue: TASK_QUEUES.control, startToCloseTimeout: '1m' },
  /** As long as a worker lives; a worker that does not take it at once is gone. One try: the worker registers again. */
  presence: {
    retry: { maximumAttempts: 1 },
    startToCloseTimeout: '365 days',
    scheduleToStartTimeout: '15s',
    heartbeatTimeout: '15s',
  },
  /** What a granted host has to offer to a gang. */
  offer: {
    ...shared,
    retry: { maximumAttempts: 1 },
    startToCloseTimeout: '2m',
    scheduleToStartTimeout: '15s',
    heartbeatTimeout: '30s',
  },
  /** One host's part in one attempt of a gang, which is never tried again alone. */
  member: {
    ...shared,
    retry: { maximumAttempts: 1 },
    startToCloseTimeout: '30 days',
    scheduleToStartTimeout: '15s',
    heartbeatTimeout: '30s',
  },
} satisfies Record<string, ActivityOptions>;
