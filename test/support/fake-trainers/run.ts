// Runs labelled faults through the real supervision: `train()` with a file store, no Temporal, and the fake trainer as its Python.
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { AnnealError, type FailureKind } from '../../../src/contracts/failure.ts';
import type { FileSet, Receipt } from '../../../src/contracts/records.ts';
import { type Recipe, RecipeSchema } from '../../../src/contracts/spec.ts';
import { putFolder } from '../../../src/storage/file-set.ts';
import { createFileStore } from '../../../src/storage/file-store.ts';
import { readReceipts } from '../../../src/storage/receipts.ts';
import { PROJECT_FOLDER } from '../../../src/telemetry/code-identity.ts';
import type { TrainingOptions } from '../../../src/trainer/attempt.ts';
import type { PythonConfig } from '../../../src/trainer/child.ts';
import type { LimitRules } from '../../../src/trainer/phase-limits.ts';
import { StopRequest } from '../../../src/trainer/stop-request.ts';
import { train } from '../../../src/trainer/training.ts';
import { createWarmParent } from '../../../src/trainer/warm-parent.ts';
import { FAULT_SAVE_STEPS, FAULT_STEPS, FAULTS, type FaultCase } from './corpus.ts';

export interface FaultResult {
  name: string;
  kinds: string[];
  actions: Receipt['action'][];
  ends: 'done' | FailureKind;
  findings: string[];
  /** null when there are none. */
  weights: string | null;
  /** Of the last receipt. */
  message: string;
  rightClass: boolean;
  rightAction: boolean;
  /** Retries of a deterministic failure that changed nothing. */
  wasted: number;
}

/** Long enough for a loaded machine to start Python, short enough for a test. */
const LIMITS: LimitRules = {
  unseenMs: { load: 6_000, tokenise: 6_000, first_step: 6_000, train: 6_000, evaluate: 6_000, save: 6_000 },
  unseenForkMs: 3_000,
  factor: 5,
  slackMs: 2_000,
};
/** What a trainer that is deaf to SIGTERM gets, ms. */
const GRACE_MS = 300;

/** Most faults wait for something; two cores bear so many at once. */
const AT_ONCE = 6;
const VENV = join(PROJECT_FOLDER, '.anneal', 'venv', 'bin', 'python');

/** The whole corpus, or the first so many. */
export async function runFaults(most = FAULTS.length): Promise<FaultResult[]> {
  // The fakes need no library.
  const python = existsSync(VENV) ? VENV : 'python3';
  const results: FaultResult[] = [];
  const waiting = FAULTS.slice(0, most);
  const work = async () => {
    for (let fault = waiting.shift(); fault !== undefined; fault = waiting.shift())
      results.push(await runFault(fault, python));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return results;
}

async function runFault(fault: FaultCase, python: string): Promise<FaultResult> {
  const folder = mkdtempSync(join(tmpdir(), 'anneal-fault-'));
  try {
    return judge(fault, await observe(fault, python, folder));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

type Observed = Omit<FaultResult, 'name' | 'rightClass' | 'rightAction' | 'wasted'>;

async function observe(fault: FaultCase, executable: string, folder: string): Promise<Observed> {
  const python = fakePython(fault, fault.python ?? executable, folder);
  const warmParent = fault.parent === undefined ? null : createWarmParent(python, join(folder, 'parent'));
  const options = await fakeTraining(folder, { fault, python, warmParent });
  try {
    const { receipts, findings, result } = await train(options);
    return {
      ...describe(receipts),
      ends: 'done',
      findings: findings.map(({ code }) => code),
      weights: result.weightsSha256,
    };
  } catch (error) {
    if (!(error instanceof AnnealError)) throw error;
    const receipts = await readReceipts(options.store, 'fault');
    return { ...describe(receipts), ends: error.kind, findings: [], weights: null };
  } finally {
    await warmParent?.close();
  }
}

/** Everything that `train()` wants, for one fake run in a folder. */
export async function fakeTraining(
  folder: string,
  given: Pick<TrainingOptions, 'python' | 'warmParent'> & { fault: FaultCase },
): Promise<TrainingOptions> {
  const store = createFileStore(join(folder, 'store'));
  const { fault } = given;
  const stop = new AbortController();
  return {
    store,
    python: given.python,
    warmParent: given.warmParent,
    sharedMemory: fault.warm === false ? null : makeFolder(folder, 'shm'),
    state: makeFolder(folder, 'state'),
    claimant: { run: 'fault', workflowRunId: 'w', attemptScheduledMs: 1, host: 'h' },
    base: { name: 'fake', folder, digest: 'b'.repeat(64) },
    dataset: await fakeDataset(store, folder),
    recipe: fakeRecipe(fault.microBatch ?? 4),
    stepBefore: null,
    signal: stop.signal,
    onProgress: ({ step }) => {
      if (fault.abortAtStep === undefined || (step ?? 0) < fault.abortAtStep) return;
      stop.abort(new StopRequest('preempted', 'The test says stop.', { graceMs: GRACE_MS, isOver: false }));
    },
    drill: { limits: LIMITS, systemRoot: join(folder, 'system') },
  };
}

function fakeRecipe(microBatch: number): Recipe {
  return RecipeSchema.parse({ maxSteps: FAULT_STEPS, saveSteps: FAULT_SAVE_STEPS, microBatch });
}

async function fakeDataset(store: ReturnType<typeof createFileStore>, folder: string): Promise<FileSet> {
  const files = makeFolder(folder, 'dataset');
  // A header without tensors: its length, 8 bytes, and itself.
  writeFileSync(join(files, 'train.safetensors'), '\x02\0\0\0\0\0\0\0{}');
  return await putFolder(store, files);
}

export function fakePython(fault: FaultCase, executable: string, folder: string): PythonConfig {
  const counter = makeCgroup(folder, fault.cgroup ?? 'v2');
  return {
    executable,
    packageFolder: import.meta.dirname,
    environment: {
      PATH: process.env.PATH ?? '',
      FAULTS: JSON.stringify([fault.fault ?? []].flat()),
      FAULT_MEMORY: makeFolder(folder, 'memory'),
      FAULT_OOM_COUNTER: counter,
      PARENT_FAULT: fault.parent ?? '',
    },
  };
}

/** The files of a control group, as the kernel keeps them. Returns the one with the counter. */
function makeCgroup(folder: string, version: 'v1' | 'v2'): string {
  const at = (path: string, text: string) => {
    const file = join(folder, 'system', path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    return file;
  };
  if (version === 'v2') {
    at('proc/self/cgroup', '0::/pod/trainer\n');
    return at('sys/fs/cgroup/pod/trainer/memory.events', 'low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n');
  }
  at('proc/self/cgroup', '9:name=systemd:/\n4:memory:/pod/trainer\n0::/\n');
  return at('sys/fs/cgroup/memory/pod/trainer/memory.oom_control', 'oom_kill_disable 0\nunder_oom 0\noom_kill 0\n');
}

function makeFolder(...path: string[]): string {
  const folder = join(...path);
  mkdirSync(folder, { recursive: true });
  return folder;
}

function describe(receipts: Receipt[]): Pick<FaultResult, 'kinds' | 'actions' | 'message'> {
  return {
    kinds: receipts.map(({ kind }) => kind),
    actions: receipts.map(({ action }) => action),
    message: receipts.at(-1)?.message ?? '',
  };
}

function judge(fault: FaultCase, observed: Observed): FaultResult {
  const { expect } = fault;
  const same = (a: unknown[], b: unknown[]) => JSON.stringify(a) === JSON.stringify(b);
  const found = (expect.findings ?? []).every((code) => expect.ends !== 'done' || observed.findings.includes(code));
  return {
    name: fault.name,
    ...observed,
    rightClass: same(observed.kinds, expect.kinds) && found && observed.message.includes(expect.says ?? ''),
    rightAction: same(observed.actions, expect.actions) && observed.ends === expect.ends,
    wasted: fault.deterministic ? observed.actions.filter(changesNothing).length : 0,
  };
}

function changesNothing(action: Receipt['action']): boolean {
  return action === 'restarted' || action === 'replayed' || action === 'disk_freed';
}
