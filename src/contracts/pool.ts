// What the GPU pool is told, decides and shows: hosts, requests, grants, quotas. Types only.

/** A host whose GPU worker runs. */
export interface PoolHost {
  name: string;
  /** Of the worker's process: another one means that the worker was started anew. */
  bootId: string;
  device: 'gpu' | 'cpu';
  /** Ranks that it can hold: its GPUs, or its processors where it has none. */
  slots: number;
  /** Hosts train together only when their labels are the same, such as `gpu=h100`. */
  labels: string;
  /** What its trainings may take; absent = its worker is of before, or could not tell. */
  memory?: HostMemory;
  /** It works for the queue that all share, and will be back. */
  isAway?: boolean;
}

export interface HostMemory {
  /** Of the host, or of its control group where that sets a limit. */
  memoryBytes: number;
  /** The smallest of its GPUs; null where it trains on processors. */
  gpu: { name: string; memoryBytes: number } | null;
}

/** The host with this name and worker goes to work for the shared queue, or is back. */
export type HostAway = Pick<PoolHost, 'name' | 'bootId'> & { isAway: boolean };

export interface HostRequest {
  /** Unique; the same request sent again counts once. */
  id: string;
  /** Whom the answer goes to, and whose end frees the hosts. */
  workflowId: string;
  workflowRunId: string;
  run: string;
  team: string;
  /** 1 is served first, 5 last. */
  priority: number;
  hosts: number;
  /** Ranks on each host. */
  processes: number;
  device: 'auto' | 'cpu';
  /** Hosts that the run had before: they still hold its state. */
  prefer: string[];
}

export interface HostRelease {
  /** Of the request, granted or still waiting. */
  id: string;
  /** Granted hosts that did not answer: they come back when their workers register again. */
  lost: string[];
}

export type PoolAnswer = { id: string } & ({ granted: string[] } | { refused: string });

export interface Grant {
  request: HostRequest;
  hosts: string[];
  sinceMs: number;
}

export interface WaitingRequest {
  request: HostRequest;
  sinceMs: number;
  /** Since when the pool has been too small for it; null = it is not. */
  impossibleSinceMs: number | null;
  /** Why it waits, one sentence. */
  why: string;
}

export interface WaitLimits {
  /** How long the pool may be too small for a request before it is refused. */
  impossibleMs: number;
  /** How long a request waits before hosts that become free take no new training from the shared queue. */
  keepMs: number;
}

/** Who gets what, and why the others wait. */
export interface Decision {
  granted: Grant[];
  refused: { request: HostRequest; why: string }[];
  waiting: WaitingRequest[];
  /** By name of a host, the run for which it is kept from the shared queue. */
  kept: Record<string, string>;
  /** By team, when it was last granted anything. */
  servedMs: Record<string, number>;
}

export interface DecideInput {
  state: PoolState;
  nowMs: number;
  limits: WaitLimits;
}

export interface QuotaChange {
  team: string;
  /** GPUs that the team may hold at once; null = as many as there are. */
  gpus: number | null;
}

export interface PoolState {
  hosts: PoolHost[];
  waiting: WaitingRequest[];
  grants: Grant[];
  /** By team. */
  quotas: Record<string, number>;
  /** By name of a host, the run whose gang has waited so long that the host takes no other training. */
  kept?: Record<string, string>;
  /** By team, when it was last granted anything, ms since the epoch. */
  servedMs?: Record<string, number>;
}
