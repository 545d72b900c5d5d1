// The kinds of failure, each of which asks for a different action, and the one error class that carries them.
// Nothing here imports anything, so that workflows may use the values.

/** Kinds that repeat their way to success: the activity is tried again, some of them within limits (`PATIENCE`). */
export const RETRYABLE_KINDS = [
  'preempted', // SIGTERM with notice: the state was saved at a step edge
  'trainer_crashed', // signal or exit code without a typed cause
  'trainer_stalled', // no progress within the phase's limit
  'checkpoint_corrupt', // digest mismatch or torn: an older checkpoint is next
  'store_unavailable', // the object store is down or full
  'engine_unavailable', // the gateway or its engine does not answer
  'source_unavailable', // a source's server does not answer or is overloaded
  'source_changed', // a source changed while it was read: it is read again from its start
] as const;

/** Kinds that repeating cannot mend: the run stops at once and says what to change. */
export const FINAL_KINDS = [
  'bad_request', // the spec is wrong
  'data_rejected', // the data is wrong
  'trainer_bug', // the code is wrong
  'out_of_memory', // GPU or host memory
  'loss_not_finite', // NaN or Inf in loss, gradient norm or an evaluation
  'gate_failed', // the evaluation's verdict is not a pass
  'disk_full', // no space left for the working folder
  'fenced', // a newer claim exists: this attempt ends quietly
] as const;

export type FailureKind = (typeof RETRYABLE_KINDS)[number] | (typeof FINAL_KINDS)[number];

/** How often an activity was tried, and how long since it was first scheduled. */
export interface Tries {
  attempts: number;
  ms: number;
}

/**
 * Where waiting ends, because a mistyped address looks like a server that is down. Both limits must be reached: tries alone
 * would soon be used up, time alone also passes while no worker is there. The other retryable kinds are waited out.
 */
const PATIENCE: Partial<Record<FailureKind, Tries>> = {
  source_unavailable: { attempts: 8, ms: 120_000 }, // a server's restart or a short break of the network
  source_changed: { attempts: 8, ms: 120_000 }, // its writer is done by then, or never
  engine_unavailable: { attempts: 5, ms: 600_000 }, // a gateway's host may be replaced meanwhile
};

/** One finding about the input: where, and what to do. */
export interface Problem {
  path: string;
  message: string;
}

export function problemIf(holds: boolean, path: string, message: string): Problem[] {
  return holds ? [{ path, message }] : [];
}

/**
 * An error with a kind. `message` is one sentence: what happened, to which id, value and limit, and what to do.
 * Adapters throw it; activities turn it into the Temporal failure of the same type; the CLI prints it and sets the exit code.
 */
export class AnnealError extends Error {
  readonly kind: FailureKind;
  readonly problems: Problem[];
  /** Address of the data card that shows what was wrong with the data, or null. */
  readonly card: string | null;

  constructor(
    kind: FailureKind,
    message: string,
    options: { cause?: unknown; problems?: Problem[]; card?: string | null } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AnnealError';
    this.kind = kind;
    this.problems = options.problems ?? [];
    this.card = options.card ?? null;
  }
}

export function isFinal(kind: FailureKind): boolean {
  return (FINAL_KINDS as readonly string[]).includes(kind);
}

/** Whether a retryable kind has used up its limits, and so is final too. */
export function isTriedOut(kind: FailureKind, tries: Tries): boolean {
  const limit = PATIENCE[kind];
  return limit !== undefined && tries.attempts >= limit.attempts && tries.ms >= limit.ms;
}

export function isFailureKind(value: unknown): value is FailureKind {
  return typeof value === 'string' && ([...RETRYABLE_KINDS, ...FINAL_KINDS] as readonly string[]).includes(value);
}
