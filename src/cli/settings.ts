// Where the stack is: variables that are set, else the embedded stack that runs on the state folder.
import { join, resolve } from 'node:path';
import { type Environment, readEnvironment } from '../contracts/environment.ts';
import { PROJECT_FOLDER } from '../telemetry/code-identity.ts';
import { CliError, stackFailure } from './failures.ts';

/** Folder of the embedded stack's state. */
export function stateFolder(env: NodeJS.ProcessEnv = process.env): string {
  return env.ANNEAL_STATE ? resolve(env.ANNEAL_STATE) : join(PROJECT_FOLDER, '.anneal');
}

/**
 * The environment that a stack's own processes see, with what the caller's variables override.
 * @throws CliError `no_stack` when no address is set and no embedded stack runs.
 */
export async function resolveEnvironment(env: NodeJS.ProcessEnv = process.env): Promise<Environment> {
  const state = stateFolder(env);
  const { readRunningStack } = await import('../dev/stack-file.ts');
  const stack = running(state, readRunningStack);
  if (stack === null && !env.ANNEAL_TEMPORAL_ADDRESS) {
    throw new CliError(
      'no_stack',
      `No stack is running on ${state}; start one with \`anneal up\`, or set ANNEAL_TEMPORAL_ADDRESS to the address of another.`,
    );
  }
  return readEnvironment({ ...stack?.environment, ...definedIn(env), ANNEAL_STATE: state });
}

/** Whether the embedded stack of the state folder runs, and nothing names another one. */
export async function hasEmbeddedStack(env: NodeJS.ProcessEnv = process.env): Promise<boolean> {
  const { readRunningStack } = await import('../dev/stack-file.ts');
  return !env.ANNEAL_TEMPORAL_ADDRESS && running(stateFolder(env), readRunningStack) !== null;
}

/** What the embedded stack takes over from the caller; addresses, folders of state and credentials are its own. */
const HANDED_ON = [
  'ANNEAL_PYTHON',
  'ANNEAL_MODELS',
  'ANNEAL_EXAMPLES',
  'ANNEAL_SERVE_BASE',
  'ANNEAL_PRICES',
  'ANNEAL_LOG_LEVEL',
];

/** Variables for the workers of a stack that the caller starts. */
export function workerEnvironment(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  return Object.fromEntries(HANDED_ON.flatMap((name) => (env[name] ? [[name, env[name]]] : [])));
}

function running<T>(state: string, read: (state: string) => T): T {
  try {
    return read(state);
  } catch (error) {
    return stackFailure(error);
  }
}

function definedIn(env: NodeJS.ProcessEnv): Record<string, string> {
  const known = Object.entries(env).filter(([name, value]) => /^(ANNEAL|AWS)_/.test(name) && value !== '');
  return Object.fromEntries(known) as Record<string, string>;
}
