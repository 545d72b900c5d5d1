// Errors as OpenAI's API answers them, so that its clients raise the exception that fits.
import { AnnealError } from '../contracts/failure.ts';
import { Refusal } from './engine.ts';

export class ApiError extends Error {
  readonly status: number;
  readonly type: string;
  readonly param: string | null;
  readonly code: string | null;
  /** Seconds after which a retry makes sense; null = it never does. */
  readonly retryAfter: number | null;

  constructor(
    status: number,
    type: string,
    message: string,
    { param = null, code = null, retryAfter = null }: Partial<Pick<ApiError, 'param' | 'code' | 'retryAfter'>> = {},
  ) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.type = type;
    this.param = param;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  toJSON() {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code } };
  }
}

/** Answers take seconds, restarts of the engine about ten: clients double this themselves. */
const RETRY_AFTER_S = 2;

export function badRequest(message: string, param: string | null, code: string | null = null): ApiError {
  return new ApiError(400, 'invalid_request_error', message, { param, code });
}

export function notFound(message: string, param: string | null, code: string): ApiError {
  return new ApiError(404, 'invalid_request_error', message, { param, code });
}

/** Every error that a handler may throw, as the client sees it. Causes of our own faults stay in the log. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof Refusal) return ofRefusal(error);
  if (error instanceof AnnealError && error.kind === 'engine_unavailable') return unavailable(error.message);
  const { statusCode, message } = error as { statusCode?: number; message?: string };
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new ApiError(statusCode, 'invalid_request_error', message ?? 'The request is not valid.');
  }
  return new ApiError(500, 'server_error', 'The gateway failed; its log has the cause.', { code: 'internal_error' });
}

function ofRefusal(refusal: Refusal): ApiError {
  switch (refusal.code) {
    case 'overloaded':
      return new ApiError(429, 'rate_limit_error', refusal.message, { code: 'overloaded', retryAfter: RETRY_AFTER_S });
    case 'too_long':
      return badRequest(refusal.message, 'messages', 'context_length_exceeded');
    case 'bad_request':
      return badRequest(refusal.message, 'messages');
    case 'unknown_adapter': // the endpoint exists, its adapter is being loaded again
      return unavailable(refusal.message);
    default:
      return refusal.code satisfies never;
  }
}

function unavailable(message: string): ApiError {
  return new ApiError(503, 'server_error', message, { code: 'engine_unavailable', retryAfter: RETRY_AFTER_S });
}
