// Exit codes, and any error as a kind and one sentence. A stack trace is printed at log level `debug` only.
import type { Problem } from '../contracts/failure.ts';

export const EXIT = { done: 0, failed: 1, usage: 2, gateFailed: 10, budgetReached: 11, interrupted: 130 } as const;

/** An error of the command line itself. */
export class CliError extends Error {
  readonly kind: string;
  readonly exitCode: number;

  constructor(kind: string, message: string, exitCode: number = EXIT.failed) {
    super(message);
    this.name = 'CliError';
    this.kind = kind;
    this.exitCode = exitCode;
  }
}

/** A stack that does not come up or whose state cannot be read is a failure, not a wrong command line. */
export function stackFailure(error: unknown): never {
  throw new CliError('stack_failed', error instanceof Error ? error.message : String(error));
}

export interface Failure {
  kind: string;
  message: string;
  problems: Problem[];
  exitCode: number;
}

export function describeFailure(error: unknown): Failure {
  const message = sentence(error instanceof Error ? error.message : String(error));
  const problems = error instanceof Error && 'problems' in error ? (error.problems as Problem[]) : [];
  if (error instanceof CliError) return { kind: error.kind, message, problems, exitCode: error.exitCode };
  const kind = error instanceof Error && 'kind' in error && typeof error.kind === 'string' ? error.kind : 'unexpected';
  return { kind, message, problems, exitCode: exitCodeOf(kind) };
}

export function exitCodeOf(kind: string): number {
  if (kind === 'gate_failed') return EXIT.gateFailed;
  return kind === 'bad_request' ? EXIT.usage : EXIT.failed;
}

function sentence(message: string): string {
  return /[.!?]$/.test(message.trim()) ? message.trim() : `${message.trim()}.`;
}

/** For people: one sentence, or a heading and a line for each of several problems. */
export function failureLines({ message, problems }: Pick<Failure, 'message' | 'problems'>): string[] {
  if (problems.length < 2) return [message];
  return [`${problems.length} problems:`, ...problems.map((p) => `  ${p.path || 'spec'} ${p.message}`)];
}
