// Runs the command line as a user does: a process of its own, both outputs, the exit code.
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface AnnealOptions {
  /** Working folder: relative paths of specs and sources start here. */
  cwd: string;
  env: Record<string, string>;
}

export type Anneal = (args: string[], more?: Record<string, string>) => Promise<Ended>;

/** What a program of the product needs of this process's environment; the rest is not handed on. */
export function bareEnvironment(): Record<string, string> {
  const { PATH = '', NODE_COMPILE_CACHE } = process.env;
  return { PATH, ...(NODE_COMPILE_CACHE !== undefined && { NODE_COMPILE_CACHE }) };
}

export function createAnneal({ cwd, env }: AnnealOptions): Anneal {
  return async (args, more = {}) => {
    const child = spawn(process.execPath, [`${PROJECT_FOLDER}/src/cli/main.ts`, ...args], {
      cwd,
      env: { ...bareEnvironment(), ...env, ...more },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const code = new Promise<number | null>((ended) => child.once('close', ended));
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return { code: await code, stdout, stderr };
  };
}

/** The JSON object that programs read: the last line of standard output. */
export function lastObject({ stdout }: Pick<Ended, 'stdout'>): Record<string, unknown> {
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
}
