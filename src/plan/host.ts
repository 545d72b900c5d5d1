// What this host has for a training: its GPUs, and the memory that its processes may take together.
import { execFile } from 'node:child_process';
import { totalmem } from 'node:os';
import { promisify } from 'node:util';
import type { Recipe } from '../contracts/spec.ts';
import { readUpwards } from '../trainer/control-group.ts';

export interface Gpu {
  name: string;
  memoryBytes: number;
}

export interface Host {
  /** As the pool knows it; absent = this machine. */
  name?: string;
  /** It stands for hosts of which nothing is known: what it lacks is no problem of theirs. */
  isStandIn?: boolean;
  /** Of the control group where it sets a limit, else the machine's. */
  memoryBytes: number;
  gpus: Gpu[];
}

/** The driver answers within a second, after a cold start within ten, ms. */
const GPU_QUERY_MS_MAX = 15_000;
const MIB = 1024 ** 2;

/** @param visible CUDA_VISIBLE_DEVICES, as trainers get it. @param root of the file system. */
export async function describeHost(visible?: string, root?: string): Promise<Host> {
  return {
    memoryBytes: Math.min(totalmem(), groupLimit(root) ?? Number.POSITIVE_INFINITY),
    gpus: await listGpus(visible),
  };
}

/** What one process of the recipe may take: a GPU's memory, or its share of the host's. */
export function limitOf(host: Host, recipe: Pick<Recipe, 'device' | 'processes'>): number {
  const gpus = gpusFor(host, recipe);
  return gpus.length > 0
    ? Math.min(...gpus.map(({ memoryBytes }) => memoryBytes))
    : host.memoryBytes / recipe.processes;
}

/** None where it trains on CPUs. */
export function gpusFor({ gpus }: Host, { device, processes }: Pick<Recipe, 'device' | 'processes'>): Gpu[] {
  return device === 'cpu' ? [] : gpus.slice(0, processes);
}

async function listGpus(visible: string | undefined): Promise<Gpu[]> {
  if (visible === '' || visible === '-1') return [];
  const query = ['--query-gpu=name,memory.total', '--format=csv,noheader,nounits'];
  const answer = await promisify(execFile)('nvidia-smi', query, { timeout: GPU_QUERY_MS_MAX }).catch(() => null);
  const gpus = (answer?.stdout ?? '').split('\n').flatMap((line) => {
    const [, name, mib] = /^(.+), (\d+)$/.exec(line.trim()) ?? [];
    return name === undefined ? [] : [{ name, memoryBytes: Number(mib) * MIB }];
  });
  if (visible === undefined) return gpus;
  const wanted = visible.split(',').map(Number);
  return wanted.every((index) => Number.isInteger(index))
    ? gpus.filter((_, i) => wanted.includes(i))
    : gpus.slice(0, wanted.length);
}

/** The smallest limit of this process's control group and those above it, bytes; null where there is none. */
function groupLimit(root: string | undefined): number | null {
  const limits = readUpwards({ v1: 'memory.limit_in_bytes', v2: 'memory.max' }, root)
    .map(Number)
    .filter((limit) => Number.isFinite(limit) && limit > 0);
  return limits.length === 0 ? null : Math.min(...limits);
}
