// The product's own processes as parts of the stack: one Node process per worker, ready when it has said so itself.
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { PartPlan } from './part-plan.ts';
import type { PartName } from './stack-layout.ts';

/** A worker drains what it runs and asks its trainer to save at the next step edge. */
const STOP_GRACE_MS = 15_000;

/** The GPU worker and the gateway load a model first. */
const READY_TIMEOUT_MS = 180_000;

/**
 * V8's room for what was made lately, MiB: bytes pass through memory that it does not count, so that it would let 100 MiB of garbage lie
 * before it collects any. The container's entry point has the same.
 */
export const NODE_FLAGS = ['--max-semi-space-size=8'];

export interface WorkerPlanOptions {
  name: PartName;
  project: string;
  /** The worker writes its pid here when it polls or listens. */
  readyFile: string;
  environment: Record<string, string>;
}

export function planWorker({ name, project, readyFile, environment }: WorkerPlanOptions): PartPlan {
  return {
    name,
    command: process.execPath,
    args: [...NODE_FLAGS, join(project, 'src', 'workers', `${name}.ts`)],
    environment: { ...environment, ANNEAL_READY_FILE: readyFile },
    prepare: () => {
      mkdirSync(dirname(readyFile), { recursive: true });
      rmSync(readyFile, { force: true });
    },
    stopGraceMs: STOP_GRACE_MS,
    readyTimeoutMs: READY_TIMEOUT_MS,
    // A file of an earlier process holds another pid, so it says nothing about this one.
    isReady: async (pid) => readPid(readyFile) === pid,
  };
}

function readPid(readyFile: string): number | null {
  try {
    return Number(readFileSync(readyFile, 'utf8').trim());
  } catch {
    return null;
  }
}
