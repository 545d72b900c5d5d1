// The embedded stack as a library: Temporal, an S3 store, the workers and the gateway, on loopback, in the order in which they need each other.
// A part that dies is restarted. What a killed supervisor left behind is found by pid and start time and ended by the next start.
import { join, resolve } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import { identifyProcess } from '../trainer/process-identity.ts';
import { planObjectServer, readOrCreateCredentials, type StoreAccess } from './object-server.ts';
import type { PartPlan } from './part-plan.ts';
import { choosePorts, type StackPorts } from './ports.ts';
import { endLeftovers } from './stack-end.ts';
import { describeEnvironment, portsOf, requireBinaries } from './stack-environment.ts';
import { lockState, makeStateFolder, removeStackFile, unlockState, writeStack } from './stack-file.ts';
import { locateProject, locateState, PART_NAMES, type PartName, SERVER_PARTS } from './stack-layout.ts';
import { SupervisedPart } from './supervised-part.ts';
import { planTemporal } from './temporal-server.ts';
import { planWorker } from './worker-process.ts';

export { FREE_PORTS } from './ports.ts';
export { stopStack } from './stack-end.ts';
export { readRunningStack, readStack, type StackFile } from './stack-file.ts';
export type { PartName } from './stack-layout.ts';

const BUCKET = 'anneal';

export interface StackOptions {
  /** The project's folder, where the set-up has put binaries, models and examples. */
  project: string;
  /** Folder of this stack's state; one stack at a time. */
  state: string;
  /** A missing port has its default, 0 means any free one (`FREE_PORTS`). */
  ports?: Partial<StackPorts>;
  /** All six where not given. */
  parts?: readonly PartName[];
  /** `memory`: Temporal forgets at its end, and the kernel ends all parts when this process dies. */
  database?: 'file' | 'memory';
  /** Added to the environment of the workers; wins over the stack's own. */
  environment?: Record<string, string>;
  onLine?(line: string): void;
  /** Restart parts that die; on where not given. */
  restart?: boolean;
  /** Stops the stack, also one that is still starting. */
  signal?: AbortSignal;
}

export interface Stack {
  /** Every `ANNEAL_*` and `AWS_*` variable that clients and workers read. */
  environment: Record<string, string>;
  webUi: string;
  gateway: string;
  /** null between a death and the restart. */
  pidOf(part: PartName): number | null;
  /** Signals the part's process alone (SIGKILL where not given) and waits for its end. */
  kill(part: PartName, signal?: NodeJS.Signals): Promise<void>;
  /** Starts a part that is dead and waits until it is ready. */
  start(part: PartName): Promise<void>;
  waitReady(part: PartName): Promise<void>;
  /** Workers first, then servers. Idempotent. */
  stop(): Promise<void>;
  logFile(part: PartName): string;
}

/**
 * @throws AnnealError `bad_request` when another stack owns the state folder, a wanted port is taken, the set-up has not run, or a part does not come up.
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  const state = resolve(options.state);
  makeStateFolder(state);
  lockState(state);
  try {
    await endLeftovers(state, options.onLine ?? ignoreLine);
    const stack = await createStack({ ...options, state, project: resolve(options.project) });
    await stack.startAll();
    return stack;
  } catch (error) {
    unlockState(state);
    throw error;
  }
}

async function createStack(options: StackOptions): Promise<SupervisedStack> {
  const names = PART_NAMES.filter((name) => (options.parts ?? PART_NAMES).includes(name));
  requireBinaries(options.project);
  const ports = await choosePorts(options.ports ?? {}, portsOf(names));
  const access: StoreAccess = {
    endpoint: `http://127.0.0.1:${ports.store}`,
    bucket: BUCKET,
    credentials: readOrCreateCredentials(locateState(options.state).credentialsFile),
  };
  const environment = { ...describeEnvironment(options, ports, access), ...options.environment };
  return new SupervisedStack(options, names, ports, access, environment);
}

function ignoreLine(): void {}

class SupervisedStack implements Stack {
  readonly environment: Record<string, string>;
  readonly webUi: string;
  readonly gateway: string;
  readonly #options: StackOptions;
  readonly #ports: StackPorts;
  readonly #access: StoreAccess;
  readonly #parts = new Map<PartName, SupervisedPart>();
  readonly #startedAt = new Date().toISOString();
  #ready = false;
  #stopped: Promise<void> | null = null;

  constructor(
    options: StackOptions,
    names: readonly PartName[],
    ports: StackPorts,
    access: StoreAccess,
    environment: Record<string, string>,
  ) {
    this.#options = options;
    this.#ports = ports;
    this.#access = access;
    this.environment = environment;
    this.webUi = environment.ANNEAL_WEB_UI ?? '';
    this.gateway = environment.ANNEAL_GATEWAY_URL ?? '';
    for (const name of names) this.#parts.set(name, this.#supervise(this.#plan(name)));
  }

  async startAll(): Promise<void> {
    this.#options.signal?.addEventListener('abort', () => void this.stop(), { once: true });
    try {
      await this.#startTogether([...this.#parts.keys()].filter((name) => SERVER_PARTS.includes(name)));
      await this.#startTogether([...this.#parts.keys()].filter((name) => !SERVER_PARTS.includes(name)));
      this.#ready = true;
      this.#record();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  pidOf(part: PartName): number | null {
    return this.#part(part).identity?.pid ?? null;
  }

  async kill(part: PartName, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#part(part).kill(signal);
  }

  async start(part: PartName): Promise<void> {
    this.#part(part).start();
    await this.waitReady(part);
  }

  async waitReady(part: PartName): Promise<void> {
    await this.#part(part).waitReady();
  }

  logFile(part: PartName): string {
    return this.#part(part).logFile;
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stopAll();
    return this.#stopped;
  }

  async #stopAll(): Promise<void> {
    this.#ready = false;
    this.#tryRecord();
    const parts = [...this.#parts.values()];
    // Workers go first: a trainer that saves at its last step edge needs the store.
    await Promise.all(parts.filter(({ plan }) => !SERVER_PARTS.includes(plan.name)).map((part) => part.stop()));
    await Promise.all(parts.filter(({ plan }) => SERVER_PARTS.includes(plan.name)).map((part) => part.stop()));
    removeStackFile(this.#options.state);
    unlockState(this.#options.state);
  }

  async #startTogether(names: PartName[]): Promise<void> {
    await Promise.all(
      names.map(async (name) => {
        const startedAt = performance.now();
        await this.start(name);
        this.#say(`${name} ready in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
      }),
    );
  }

  #part(name: PartName): SupervisedPart {
    const part = this.#parts.get(name);
    if (part === undefined) {
      throw new AnnealError(
        'bad_request',
        `This stack has no part ${name}, only ${[...this.#parts.keys()].join(', ')}.`,
      );
    }
    return part;
  }

  #plan(name: PartName): PartPlan {
    const { project, state, database } = this.#options;
    const binaries = locateProject(project);
    const places = locateState(state);
    if (name === 'temporal') {
      const databaseFile = database === 'memory' ? null : places.temporalDatabase;
      return planTemporal({ binary: binaries.temporal, ports: this.#ports, databaseFile });
    }
    if (name === 'store') {
      return planObjectServer({
        binary: binaries.weed,
        port: this.#ports.store,
        folder: places.storeFolder,
        access: this.#access,
      });
    }
    return planWorker({ name, project, readyFile: join(places.readyFolder, name), environment: this.environment });
  }

  #supervise(plan: PartPlan): SupervisedPart {
    return new SupervisedPart(plan, {
      logFile: join(locateState(this.#options.state).logFolder, `${plan.name}.log`),
      cwd: this.#options.project,
      restart: this.#options.restart ?? true,
      dieWithParent: this.#options.database === 'memory',
      onLine: (line) => this.#say(line),
      onChange: () => this.#tryRecord(),
    });
  }

  /** The record is renewed at every spawn, so that a killed supervisor's successor knows all that runs. */
  #record(): void {
    const supervisor = identifyProcess(process.pid);
    if (supervisor === null) throw new Error(`Process ${process.pid} cannot see its own start time in /proc or ps.`);
    writeStack(this.#options.state, {
      v: 1,
      supervisor,
      ready: this.#ready,
      startedAt: this.#startedAt,
      project: this.#options.project,
      ports: this.#ports,
      webUi: this.webUi,
      gateway: this.gateway,
      environment: this.environment,
      parts: Object.fromEntries([...this.#parts].map(([name, part]) => [name, part.identity])),
    });
  }

  /** A full disk must not end what still runs: an old record costs a later `down` a process at most. */
  #tryRecord(): void {
    try {
      this.#record();
    } catch (error) {
      this.#say(error instanceof Error ? error.message : String(error));
    }
  }

  #say(line: string): void {
    this.#options.onLine?.(line);
  }
}
