// What every stage's activity has in common: a heartbeat on its own timer, one place where errors become Temporal failures,
// and receipts so that a stage whose answer was lost is not done twice.
import { ApplicationFailure, Context } from '@temporalio/activity';
import { CancelledFailure } from '@temporalio/common';
import type { z } from 'zod';
import { AnnealError, isFinal, isTriedOut, type Tries } from '../contracts/failure.ts';
import type { Stage } from '../contracts/names.ts';
import type { Progress } from '../contracts/status.ts';
import { digestOf } from '../storage/digest.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { createJson, readJson } from '../storage/record.ts';

/** Heartbeats go out so often whatever the work does, ms; the SDK throttles them further. */
const HEARTBEAT_MS = 1_000;
/** From a failure to the next try, ms. */
const RETRY_MS = { first: 1_000, most: 60_000 };

export interface StageContext {
  signal: AbortSignal;
  /** Replaces what the next heartbeat says. */
  report(progress: Omit<Progress, 'stage'>): void;
  /** What the next heartbeat says. */
  progress(): Progress;
}

/** Runs the work of a stage with heartbeats and a line in the log for each turn; its errors become failures whose type is their kind. */
export async function runStage<T>(stage: Stage, work: (context: StageContext) => Promise<T>): Promise<T> {
  const activity = Context.current();
  const startedMs = Date.now();
  const seconds = () => (Date.now() - startedMs) / 1000;
  let progress: Progress = { stage, phase: 'start' };
  const heart = setInterval(() => activity.heartbeat(progress), HEARTBEAT_MS);
  activity.heartbeat(progress);
  activity.log.info('started');
  try {
    const result = await work({
      signal: activity.cancellationSignal,
      report: (next) => {
        const news = newsIn(progress, next);
        if (news !== null) activity.log.info('progress', news);
        progress = { stage, ...next };
      },
      progress: () => progress,
    });
    activity.log.info('done', { seconds: seconds(), outcome: (result as { outcome?: string }).outcome });
    return result;
  } catch (error) {
    // Cancelled, paused, reset or shut down: the SDK's own reason says which, whatever the work made of the abort.
    const failure =
      activity.cancellationSignal.aborted && !(error instanceof CancelledFailure)
        ? await activity.cancelled.catch((reason: unknown) => reason)
        : toFailure(error, { attempts: activity.info.attempt, ms: Date.now() - activity.info.scheduledTimestampMs });
    activity.log.warn('ended early', { seconds: seconds(), kind: kindOf(failure), error: failure });
    throw failure;
  } finally {
    clearInterval(heart);
  }
}

/** What is worth a line: recoveries, checkpoints, waits. Steps are not; the trainer's own files hold them. */
function newsIn(before: Progress, next: Omit<Progress, 'stage'>): Partial<Progress> | null {
  const told = (['claim', 'checkpoint', 'recoveries', 'waitingFor'] as const).filter(
    (key) => before[key] !== next[key],
  );
  if (told.length === 0) return null;
  return { ...(next.step === undefined ? {} : { step: next.step }), ...pick(next, told) };
}

function pick<T extends object, K extends keyof T>(from: T, names: K[]): Pick<T, K> {
  return Object.fromEntries(names.map((name) => [name, from[name] ?? null])) as Pick<T, K>;
}

function kindOf(failure: unknown): string {
  return failure instanceof ApplicationFailure ? (failure.type ?? 'unknown') : 'cancelled';
}

export function toFailure(error: unknown, tries: Tries = { attempts: 1, ms: 0 }): Error {
  if (error instanceof CancelledFailure || error instanceof ApplicationFailure) return error;
  if (error instanceof AnnealError) {
    const triedOut = isTriedOut(error.kind, tries);
    return ApplicationFailure.create({
      message: triedOut ? withTries(error.message, tries) : error.message,
      type: error.kind,
      nonRetryable: triedOut || isFinal(error.kind),
      nextRetryDelay: error.kind === 'preempted' ? RETRY_MS.first : retryDelayMs(tries.attempts),
      details: detailsOf(error),
    });
  }
  if ((error as NodeJS.ErrnoException).code === 'ENOSPC') {
    return ApplicationFailure.nonRetryable(
      `The working folder's disk is full (${(error as Error).message}); free space and resume the run.`,
      'disk_full',
    );
  }
  const message = error instanceof Error ? error.message : String(error);
  return ApplicationFailure.create({
    message: `Unexpected error: ${message}`,
    type: 'trainer_bug',
    nonRetryable: true,
    ...(error instanceof Error ? { cause: error } : {}),
  });
}

/** What the workflow and its callers can use of the error besides its sentence. */
function detailsOf({ problems, card }: AnnealError): object[] {
  const details = { ...(problems.length > 0 && { problems }), ...(card !== null && { card }) };
  return Object.keys(details).length > 0 ? [details] : [];
}

/** Doubles from try to try. An attempt that ends without an answer is followed after the delay of stage-options.ts instead. */
function retryDelayMs(attempts: number): number {
  return Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** (attempts - 1));
}

function withTries(sentence: string, { attempts, ms }: Tries): string {
  const seconds = Math.round(ms / 1000);
  const time = seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  return `${sentence.replace(/\.$/, '')} (tried ${attempts} times in ${time}).`;
}

interface Remembered<S extends z.ZodType> {
  run: string;
  stage: Stage;
  /** Everything that decides the result. */
  input: unknown;
  schema: S;
}

/** Does the work, or reads what it made of the same input earlier. Returns the record and its key. */
export async function rememberStage<S extends z.ZodType>(
  store: ObjectStore,
  { run, stage, input, schema }: Remembered<S>,
  work: () => Promise<z.output<S>>,
): Promise<{ key: string; value: z.output<S> }> {
  const key = keys.stage(run, stage, digestOf(input));
  const earlier = await readJson(store, key, schema);
  if (earlier !== null) return { key, value: earlier };
  const made = await work();
  // When another attempt finished first, its answer is the one that counts.
  const outcome = await createJson(store, key, made);
  return { key, value: outcome === 'exists' ? await readRecord(store, key, schema) : made };
}

/** @throws AnnealError `bad_request` when the record is gone. */
export async function readRecord<S extends z.ZodType>(
  store: ObjectStore,
  key: string,
  schema: S,
): Promise<z.output<S>> {
  const record = await readJson(store, key, schema);
  if (record === null) throw new AnnealError('bad_request', `Record ${key} is not in the store; start the run again.`);
  return record;
}
