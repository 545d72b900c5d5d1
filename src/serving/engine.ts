// What the gateway needs of an engine: a base model with adapters under immutable names that answers chats.
// The embedded engine stands behind it; vLLM can.
import { AnnealError } from '../contracts/failure.ts';
import type { EngineCommand, TrainerEventOf } from '../contracts/trainer-protocol.ts';

export type GenerateRequest = Omit<Extract<EngineCommand, { op: 'generate' }>, 'op' | 'id'>;

/** A piece of text, or the end. */
export type Generated =
  | { kind: 'text'; text: string }
  | ({ kind: 'finished' } & Pick<TrainerEventOf<'finished'>, 'reason' | 'promptTokens' | 'completionTokens'>);

export interface Engine {
  /** Resolves when it can generate for the first time. @throws AnnealError `bad_request` when it never will. */
  ready(): Promise<void>;
  /** Whether it can generate now. */
  isReady(): boolean;
  /**
   * Resolves when the adapter answers under the name. Idempotent. Running answers go on.
   * @throws Refusal `bad_request` when the folder is no adapter of the base model, AnnealError `engine_unavailable`.
   */
  load(adapter: string, folder: string): Promise<void>;
  /** New requests for the adapter are refused at once; resolves when the last answer with it has ended. Missing is no error. */
  unload(adapter: string): Promise<void>;
  /** Whether the adapter answers now. */
  holds(adapter: string): boolean;
  /**
   * Starts at once, whether or not the answer is read; unread text waits in memory, at most one answer's length.
   * Aborting frees the engine and ends the iteration with the signal's reason.
   * @throws synchronously Refusal `overloaded` and AnnealError `engine_unavailable`, while iterating also the other refusals.
   */
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<Generated>;
  /** Answers under way, waiting ones included. */
  inFlight(): number;
  close(): Promise<void>;
}

/** The engine works but does not take this request. */
export class Refusal extends Error {
  readonly code: 'overloaded' | TrainerEventOf<'rejected'>['code'];

  constructor(code: Refusal['code'], message: string) {
    super(message);
    this.name = 'Refusal';
    this.code = code;
  }
}

export function engineUnavailable(why: string): AnnealError {
  return new AnnealError(
    'engine_unavailable',
    `The serving engine is not available: ${why} Try again in a few seconds.`,
  );
}
