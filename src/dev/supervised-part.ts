// One part of the stack under supervision: spawned in a process group of its own, logged, restarted when it dies, ended with its group.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readFileSync, renameSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AnnealError } from '../contracts/failure.ts';
import { identifyProcess, KILL_WAIT_MS, type ProcessIdentity, signalGroup } from '../trainer/process-identity.ts';
import type { PartPlan } from './part-plan.ts';
import { decideRestart } from './restart-policy.ts';

/** A log that has grown past this is set aside at the next start; one old log is kept. */
const LOG_BYTES_MAX = 10 * 1024 * 1024;

/** How often a starting part is asked whether it is ready, ms. */
const READY_POLL_MS = 50;

/** A part that has never served and dies this often has a cause that the user must see at once. */
const DEATHS_BEFORE_READY_MAX = 3;

/** Lines of the log that go into a message about a part that died. */
const TAIL_LINES = 8;

const SETPRIV = '/usr/bin/setpriv';

export interface SupervisionOptions {
  logFile: string;
  cwd: string;
  restart: boolean;
  /** The kernel ends the part when this process dies in any way (Linux with `setpriv`); for stacks that nobody would find again. */
  dieWithParent: boolean;
  onLine(line: string): void;
  /** Called after each spawn and each death, before anything else happens. */
  onChange(): void;
}

export class SupervisedPart {
  readonly plan: PartPlan;
  readonly #options: SupervisionOptions;
  #child: ChildProcess | null = null;
  #identity: ProcessIdentity | null = null;
  #lastEnd = '';
  /** Size of the log when the process that runs, or ran last, was started. */
  #logStart = 0;
  #hasServed = false;
  #stopping = false;
  #restartTimer: NodeJS.Timeout | null = null;
  readonly #deathsAtMs: number[] = [];

  constructor(plan: PartPlan, options: SupervisionOptions) {
    this.plan = plan;
    this.#options = options;
  }

  /** The process that runs now, or null between a death and the restart. */
  get identity(): ProcessIdentity | null {
    return this.#identity;
  }

  get logFile(): string {
    return this.#options.logFile;
  }

  /** Spawns the process if none runs; a part that gave up is tried afresh. Does not wait until it is ready. */
  start(): void {
    if (this.#child !== null || this.#stopping) return;
    this.#cancelRestart();
    const child = this.#spawn();
    this.#child = child;
    this.#identity = child.pid === undefined ? null : identifyProcess(child.pid);
    child.once('error', (error) => this.#onDeath(child, `could not be started: ${error.message}`));
    child.once('exit', (code, signal) =>
      this.#onDeath(child, signal === null ? `exited with code ${code}` : `died of ${signal}`),
    );
    this.#options.onChange();
  }

  /**
   * Waits until the running process serves; across restarts where those are on.
   * @throws AnnealError when the part died and stays dead, or is not ready within its limit; with the end of its log.
   */
  async waitReady(): Promise<void> {
    const deadline = performance.now() + this.plan.readyTimeoutMs;
    while (performance.now() < deadline) {
      const pid = this.#identity?.pid;
      if (pid !== undefined && (await this.plan.isReady(pid)) && this.#identity?.pid === pid) {
        this.#hasServed = true;
        return;
      }
      if (this.#isDown()) throw this.#failure(this.#lastEnd || 'is not running');
      await sleep(READY_POLL_MS);
    }
    throw this.#failure(`was not ready within ${this.plan.readyTimeoutMs / 1000} s`);
  }

  /** Signals the process alone, not its group, as a user with `kill` does, and waits for its end unless the signal is not meant to end it. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    child.kill(signal);
    if (signal === 'SIGSTOP' || signal === 'SIGCONT') return;
    const { name, stopGraceMs } = this.plan;
    if (await this.#waitGone(child, stopGraceMs)) return;
    throw new Error(`${name} (pid ${child.pid}) outlived ${signal} for ${stopGraceMs} ms.`);
  }

  /** Ends the process and its group for good. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#cancelRestart();
    const child = this.#child;
    if (child?.pid === undefined) return;
    signalGroup(child.pid, 'SIGTERM');
    await this.#waitGone(child, this.plan.stopGraceMs);
    // Also when the process itself left in time: what it started may still be there.
    signalGroup(child.pid, 'SIGKILL');
    if (await this.#waitGone(child, KILL_WAIT_MS)) return;
    throw new Error(
      `${this.plan.name} (pid ${child.pid}) is still there ${KILL_WAIT_MS} ms after SIGKILL; end it by hand.`,
    );
  }

  /** @returns whether the death of this process has been dealt with; a system that still shows it for a moment does not matter. */
  async #waitGone(child: ChildProcess, timeoutMs: number): Promise<boolean> {
    if (this.#child === child) await Promise.race([once(child, 'exit'), sleep(timeoutMs, undefined, { ref: false })]);
    return this.#child !== child;
  }

  /** Dead, and waiting will not change it. */
  #isDown(): boolean {
    if (this.#child !== null) return false;
    return this.#restartTimer === null || (!this.#hasServed && this.#deathsAtMs.length >= DEATHS_BEFORE_READY_MAX);
  }

  #spawn(): ChildProcess {
    const { logFile, cwd, dieWithParent } = this.#options;
    const wrapped = dieWithParent && existsSync(SETPRIV);
    const [command, args] = wrapped
      ? [SETPRIV, ['--pdeathsig', 'TERM', this.plan.command, ...this.plan.args]]
      : [this.plan.command, this.plan.args];
    this.plan.prepare();
    const log = openLog(logFile);
    this.#logStart = fstatSync(log).size;
    try {
      return spawn(command, args, {
        cwd,
        detached: true,
        env: { ...inheritedEnvironment(), ...this.plan.environment },
        stdio: ['ignore', log, log],
      });
    } finally {
      closeSync(log);
    }
  }

  #onDeath(child: ChildProcess, how: string): void {
    if (this.#child !== child) return;
    this.#child = null;
    this.#identity = null;
    this.#lastEnd = how;
    this.#options.onChange();
    if (this.#stopping || !this.#options.restart) return;
    this.#deathsAtMs.push(performance.now());
    const step = decideRestart(this.#deathsAtMs);
    if (step.restart) {
      this.#options.onLine(`${this.plan.name} ${how}; restarting in ${step.afterMs / 1000} s`);
      this.#restartTimer = setTimeout(() => this.start(), step.afterMs);
    } else {
      const minutes = step.windowMs / 60_000;
      this.#options.onLine(
        `${this.plan.name} ${how}, for the ${step.deaths}th time in ${minutes} minutes, and stays down; see ${this.logFile}, then run \`anneal down\` and \`anneal up\``,
      );
    }
  }

  #cancelRestart(): void {
    if (this.#restartTimer !== null) clearTimeout(this.#restartTimer);
    this.#restartTimer = null;
  }

  #failure(how: string): AnnealError {
    const tail = readTail(this.logFile, this.#logStart);
    const end = tail === '' ? 'it wrote no log' : `the end of ${this.logFile}:\n${tail}`;
    const remedy = this.plan.remedy === undefined ? '' : `${this.plan.remedy}; `;
    return new AnnealError('bad_request', `${this.plan.name} ${how}; ${remedy}${end}`);
  }
}

/** What the user's shell holds, without what would make the workers sign with other credentials than the stack's. */
function inheritedEnvironment(): NodeJS.ProcessEnv {
  const { AWS_PROFILE: _profile, AWS_SESSION_TOKEN: _token, ...inherited } = process.env;
  return inherited;
}

function openLog(logFile: string): number {
  mkdirSync(dirname(logFile), { recursive: true });
  const size = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LOG_BYTES_MAX) renameSync(logFile, `${logFile}.1`);
  return openSync(logFile, 'a');
}

/** What was written behind the offset; the logs of earlier starts would mislead. */
function readTail(logFile: string, offset: number): string {
  if (!existsSync(logFile)) return '';
  const text = readFileSync(logFile).subarray(offset).toString('utf8');
  return text.trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
}
