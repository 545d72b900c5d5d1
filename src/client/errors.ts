// What a program that starts and watches runs must tell apart when Temporal refuses, each as one sentence.
import {
  isGrpcServiceError,
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  WorkflowNotFoundError,
} from '@temporalio/client';
import { AnnealError } from '../contracts/failure.ts';

export type ClientErrorKind =
  | 'temporal_unavailable' // nothing answers at the address
  | 'temporal_refused' // it answers, but not as asked
  | 'run_not_found'
  | 'run_not_running' // it has ended
  | 'run_not_resumable' // it is still running or it is complete
  | 'run_refused' // it is not in the state for what it was told
  | 'schedule_not_found'
  | 'schedule_exists';

/** `message` is one sentence: what happened, to which id, and what to do. */
export class ClientError extends Error {
  readonly kind: ClientErrorKind;

  constructor(kind: ClientErrorKind, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ClientError';
    this.kind = kind;
  }
}

const GRPC = {
  /** Also what a server says of a call that its caller's deadline has cut. */
  cancelled: 1,
  deadlineExceeded: 4,
  invalidArgument: 3,
  notFound: 5,
  permissionDenied: 7,
  unavailable: 14,
  unauthenticated: 16,
};

/** The sentence for anything that a call to Temporal throws; errors that already are sentences pass through. */
export function toClientError(error: unknown, address: string): Error {
  if (error instanceof ClientError || error instanceof AnnealError) return error;
  if (error instanceof WorkflowNotFoundError) {
    return new ClientError(
      'run_not_found',
      `Run ${error.workflowId} is not known to the Temporal server at ${address}; \`anneal ps\` lists the runs that are.`,
      error,
    );
  }
  if (error instanceof ScheduleNotFoundError) {
    return new ClientError(
      'schedule_not_found',
      `Schedule ${error.scheduleId} does not exist; \`anneal schedule list\` lists those that do.`,
      error,
    );
  }
  if (error instanceof ScheduleAlreadyRunning) {
    return new ClientError(
      'schedule_exists',
      `Schedule ${error.scheduleId} exists already; delete it first or choose another id.`,
      error,
    );
  }
  return toTransportError(error, address);
}

function toTransportError(error: unknown, address: string): Error {
  const status = grpcStatus(error);
  const isAway = [GRPC.cancelled, GRPC.unavailable, GRPC.deadlineExceeded].includes(status?.code ?? -1);
  if (isAway || isConnectTimeout(error)) {
    return new ClientError(
      'temporal_unavailable',
      `The Temporal server at ${address} does not answer; check that it runs (\`anneal doctor\`) and that ANNEAL_TEMPORAL_ADDRESS is right.`,
      error,
    );
  }
  if (status !== null) {
    return new ClientError('temporal_refused', `The Temporal server at ${address} refused: ${status.details}.`, error);
  }
  return error instanceof Error ? error : new Error(String(error));
}

/** Whether asking again later may help. */
export function isUnavailable(error: unknown): boolean {
  return error instanceof ClientError && error.kind === 'temporal_unavailable';
}

function grpcStatus(error: unknown): { code: number; details: string } | null {
  for (let e: unknown = error; e instanceof Error; e = e.cause) {
    if (isGrpcServiceError(e)) return { code: e.code, details: (e.details || e.message).replace(/\.$/, '') };
  }
  return null;
}

function isConnectTimeout(error: unknown): boolean {
  return error instanceof Error && /Failed to connect before the deadline/.test(error.message);
}
