// Owns a running stack for as long as its process lives: starts it and ends it at the first SIGINT, SIGTERM or SIGHUP.
import { constants } from 'node:os';
import { signalGroup } from '../trainer/process-identity.ts';
import { readStack, type Stack, type StackOptions, startStack } from './stack.ts';

/** npm, the shell and the terminal may each deliver the same Ctrl-C; only a later one is a second. */
const SAME_SIGNAL_MS = 1_000;

/** Options that can be handed to another process. */
export type SupervisorOptions = Pick<StackOptions, 'project' | 'state' | 'ports' | 'parts' | 'environment'>;

export interface SupervisionHooks {
  onLine(line: string): void;
  onReady(stack: Stack): void;
  /** Ends the stack like a signal does. */
  signal?: AbortSignal;
}

/**
 * Runs the stack until a signal ends it; resolves when every part is gone.
 * @throws AnnealError when the stack does not come up.
 */
export async function superviseStack(options: SupervisorOptions, hooks: SupervisionHooks): Promise<void> {
  const end = new AbortController();
  hooks.signal?.addEventListener('abort', () => end.abort(), { once: true });
  const forget = onEndingSignal(
    () => end.abort(),
    () => killStack(options.state),
  );
  try {
    const stack = await startStack({ ...options, onLine: hooks.onLine, signal: end.signal });
    hooks.onReady(stack);
    await aborted(end.signal);
    hooks.onLine('stopping');
    await stack.stop();
  } catch (error) {
    if (!end.signal.aborted) throw error;
  } finally {
    forget();
  }
}

function onEndingSignal(first: () => void, second: () => void): () => void {
  let firstAtMs: number | null = null;
  const handle = () => {
    if (firstAtMs === null) first();
    else if (performance.now() - firstAtMs > SAME_SIGNAL_MS) second();
    firstAtMs ??= performance.now();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, handle);
  return () => {
    for (const signal of signals) process.off(signal, handle);
  };
}

/** The impatient way: no part gets its grace. What it leaves on disk is what a power cut would leave. */
function killStack(state: string): never {
  for (const identity of Object.values(readStack(state)?.parts ?? {})) {
    if (identity !== null) signalGroup(identity.pid, 'SIGKILL');
  }
  process.exit(128 + constants.signals.SIGINT);
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
