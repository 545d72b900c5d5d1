// `anneal up`, `anneal down` and `anneal doctor`, without their printing.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AnnealError } from '../contracts/failure.ts';
import type { StackPorts } from './ports.ts';
import { type PartName, readRunningStack, type StackFile, stopStack } from './stack.ts';
import { makeStateFolder } from './stack-file.ts';
import { locateState } from './stack-layout.ts';
import { type SupervisorOptions, superviseStack } from './supervision.ts';
import type { SupervisorMessage } from './supervisor.ts';

export { type Check, type DoctorReport, doctor } from './doctor.ts';

export interface UpOptions {
  project: string;
  state: string;
  ports?: Partial<StackPorts>;
  parts?: readonly PartName[];
  /** Added to the environment of the workers. */
  environment?: Record<string, string>;
  /** Leave the stack running in the background and return when it is ready. */
  detach?: boolean;
  onLine(line: string): void;
  /** Called once when everything is ready; for printing the links before a foreground stack blocks. */
  onReady(stack: StackFile): void;
}

/** `ended`: a foreground stack ran and was ended by a signal. */
export type UpOutcome = 'started' | 'ran_already' | 'ended';

/** @throws AnnealError `bad_request` when the stack does not come up. */
export async function up(options: UpOptions): Promise<UpOutcome> {
  const running = readRunningStack(options.state);
  if (running !== null) {
    options.onReady(running);
    return 'ran_already';
  }
  const announce = () => options.onReady(requireRunning(options.state));
  if (options.detach) {
    await spawnSupervisor(handOver(options), options.onLine);
    announce();
    return 'started';
  }
  await superviseStack(handOver(options), { onLine: options.onLine, onReady: announce });
  return 'ended';
}

/** Ends the stack of the state folder, and whatever of it outlived its supervisor. */
export async function down(options: { state: string }): Promise<{ stopped: PartName[] }> {
  return await stopStack(options.state);
}

function handOver({ project, state, ports, parts, environment }: UpOptions): SupervisorOptions {
  return { project: resolve(project), state: resolve(state), ports, parts, environment };
}

function requireRunning(state: string): StackFile {
  const stack = readRunningStack(state);
  if (stack === null)
    throw new AnnealError('bad_request', `The stack on ${state} ended right after its start; see its logs.`);
  return stack;
}

/** Resolves when the stack is ready; the supervisor then lives on without this process. */
async function spawnSupervisor(options: SupervisorOptions, onLine: (line: string) => void): Promise<void> {
  makeStateFolder(options.state);
  const { supervisorLog } = locateState(options.state);
  const log = openSync(supervisorLog, 'a');
  const script = fileURLToPath(new URL('supervisor.ts', import.meta.url));
  const child = spawn(process.execPath, [script, JSON.stringify(options)], {
    cwd: options.project,
    detached: true,
    stdio: ['ignore', log, log, 'ipc'],
  });
  closeSync(log);
  try {
    await untilReady(child, supervisorLog, onLine);
  } finally {
    // Whatever came of it, nothing of the child keeps this process.
    child.removeAllListeners();
    if (child.connected) child.disconnect();
    child.unref();
  }
}

async function untilReady(child: ChildProcess, supervisorLog: string, onLine: (line: string) => void): Promise<void> {
  await new Promise<void>((resolveReady, reject) => {
    child.on('message', (message: SupervisorMessage) => {
      if (message.event === 'line') onLine(message.line);
      if (message.event === 'ready') resolveReady();
      if (message.event === 'failed') reject(new AnnealError('bad_request', message.message));
    });
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      reject(
        new AnnealError('bad_request', `The supervisor ended (${signal ?? `code ${code}`}); see ${supervisorLog}.`),
      );
    });
  });
}
