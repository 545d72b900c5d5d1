// How many ranks this host can hold, its GPUs, or its processors where it has none, and what memory they have.
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { HostMemory, PoolHost } from '../contracts/pool.ts';
import { describeHost } from '../plan/host.ts';

/** The kernel driver keeps a folder for each GPU here. */
const GPUS_FOLDER = '/proc/driver/nvidia/gpus';

export function countSlots(gpusGiven: number | undefined): Pick<PoolHost, 'device' | 'slots'> {
  const gpus = gpusGiven ?? countGpus(process.env.CUDA_VISIBLE_DEVICES);
  return gpus > 0 ? { device: 'gpu', slots: gpus } : { device: 'cpu', slots: availableParallelism() };
}

/** null where there are GPUs of which the driver tells nothing. */
export async function tellMemory(device: PoolHost['device'], visible: string | undefined): Promise<HostMemory | null> {
  const { memoryBytes, gpus } = await describeHost(device === 'gpu' ? visible : '');
  if (device === 'cpu') return { memoryBytes, gpu: null };
  const [gpu] = gpus.toSorted((a, b) => a.memoryBytes - b.memoryBytes);
  return gpu === undefined ? null : { memoryBytes, gpu };
}

function countGpus(visible: string | undefined): number {
  if (visible !== undefined) return visible.split(',').filter((device) => device !== '' && device !== '-1').length;
  try {
    return readdirSync(GPUS_FOLDER).length;
  } catch {
    return 0; // no driver, no GPUs
  }
}
