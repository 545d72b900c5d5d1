// GpuPool: the one long-lived workflow that knows the GPU hosts and grants a gang all of its hosts or none.
//
// Joining: a GPU worker registers its host, and the pool starts an activity on the host's own queue that lasts as long as the worker
// does, so that its heartbeat tells of the host's death without an event in between. Away: the host works for the queue that all share;
// it counts as one that will be free again. Waiting: a request waits until `decideGrants` says otherwise. Granted: the hosts are the gang's
// until it gives them back or its workflow has ended, however that came.
//
// What is decided stands in the history, as the result of an activity: a release that would decide otherwise replays what was decided
// before it, and decides what comes after.
import {
  ApplicationFailure,
  allHandlersFinished,
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  getExternalWorkflowHandle,
  log,
  patched,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type * as activities from '../activities/types.ts';
import { hostQueue, POOL } from '../contracts/names.ts';
import type {
  Decision,
  Grant,
  HostAway,
  HostRelease,
  HostRequest,
  PoolAnswer,
  PoolHost,
  PoolState,
  QuotaChange,
  WaitLimits,
} from '../contracts/pool.ts';
import { decideGrants } from './policies/grants.ts';
import { renderPoolPage } from './pool-page-text.ts';
import { STAGE_OPTIONS } from './stage-options.ts';

/** The state must fit into one event, 2 MiB, when the workflow continues as new. */
const HOSTS_MAX = 1_000;
const WAITING_MAX = 1_000;
/** A host that is replaced is back by then; and gaps shorter than that are worth filling from the shared queue, ms. */
const WAIT_LIMITS: WaitLimits = { impossibleMs: 10 * 60_000, keepMs: 10 * 60_000 };
/** Between looks for gangs that ended without giving their hosts back: while somebody waits, and otherwise, ms. */
const LOOK_MS = { waiting: 60_000, quiet: 10 * 60_000 };

const { stayInPool } = proxyActivities<activities.Host>(STAGE_OPTIONS.presence);
const { decideHosts, findEnded } = proxyActivities<activities.Pool>(STAGE_OPTIONS.pool);

const registerHost = defineSignal<[PoolHost]>(POOL.registerHost);
const hostAway = defineSignal<[HostAway]>(POOL.hostAway);
const requestHosts = defineSignal<[HostRequest]>(POOL.requestHosts);
const releaseHosts = defineSignal<[HostRelease]>(POOL.releaseHosts);
const setQuota = defineUpdate<PoolState, [QuotaChange]>(POOL.setQuota);
const poolState = defineQuery<PoolState>(POOL.state);

export interface GpuPoolInput {
  state?: PoolState;
  limits?: Partial<WaitLimits> & { lookMs?: number };
}

export async function GpuPool({ state: earlier, limits = {} }: GpuPoolInput = {}): Promise<void> {
  const state: PoolState = earlier ?? { hosts: [], waiting: [], grants: [], quotas: {} };
  let hasNews = true;
  const changed = () => {
    hasNews = true;
  };
  const hosts = watchHosts(state, changed);
  receive(state, hosts, changed);
  for (;;) {
    hasNews = false;
    const decision = await decide(state, { ...WAIT_LIMITS, ...limits });
    // It is about a state that is no more.
    if (hasNews) continue;
    await carryOut(decision, state, changed);
    setCurrentDetails(renderPoolPage(state));
    if (workflowInfo().continueAsNewSuggested) {
      await condition(allHandlersFinished);
      await continueAsNew<typeof GpuPool>({ state, limits });
    }
    const patienceMs = lookMs(state, limits);
    if (patienceMs === null) await condition(() => hasNews);
    else if (!(await condition(() => hasNews, patienceMs))) await reclaim(state);
  }
}

interface Hosts {
  /** From now on the host is in the pool for as long as its worker lives. */
  join(host: PoolHost): void;
  leave(name: string): void;
}

function watchHosts(state: PoolState, changed: () => void): Hosts {
  const watches = new Map<string, CancellationScope>();
  const forget = (name: string) => {
    watches.delete(name);
    state.hosts = state.hosts.filter((host) => host.name !== name);
    changed();
  };
  const watch = (host: PoolHost) => {
    watches.get(host.name)?.cancel();
    const scope = new CancellationScope();
    watches.set(host.name, scope);
    const options = { taskQueue: hostQueue(host.name), summary: host.name };
    void scope
      .run(() => stayInPool.executeWithOptions(options, [host]))
      // How it ended does not matter: its worker left or died, or this watch was replaced.
      .catch(() => undefined)
      .then(() => {
        if (watches.get(host.name) === scope) forget(host.name);
      });
  };
  for (const host of state.hosts) watch(host);
  return {
    join(host) {
      state.hosts = [...state.hosts.filter(({ name }) => name !== host.name), host];
      watch(host);
      changed();
    },
    leave(name) {
      watches.get(name)?.cancel();
      forget(name);
    },
  };
}

function receive(state: PoolState, hosts: Hosts, changed: () => void): void {
  setHandler(registerHost, (host) => {
    const isFull = state.hosts.length >= HOSTS_MAX && !state.hosts.some(({ name }) => name === host.name);
    if (isFull) log.warn(`The pool has ${HOSTS_MAX} hosts; ${host.name} stays outside.`);
    else hosts.join(host);
  });
  setHandler(hostAway, ({ name, bootId, isAway }) => {
    const host = state.hosts.find((its) => its.name === name && its.bootId === bootId);
    if (host === undefined) return;
    host.isAway = isAway;
    changed();
  });
  setHandler(requestHosts, (request) => {
    const isKnown = [...state.waiting, ...state.grants].some((its) => its.request.id === request.id);
    if (isKnown) return;
    const sinceMs = Date.now();
    state.waiting.push({ request, sinceMs, impossibleSinceMs: null, why: '' });
    changed();
  });
  setHandler(releaseHosts, ({ id, lost }) => {
    forgetRequest(state, id);
    for (const name of lost) hosts.leave(name);
    changed();
  });
  setHandler(poolState, () => state, { description: 'Hosts, grants, waiting requests and quotas.' });
  setHandler(
    setQuota,
    ({ team, gpus }) => {
      if (gpus === null) delete state.quotas[team];
      else state.quotas[team] = gpus;
      changed();
      return state;
    },
    {
      description: 'GPUs that a team may hold at once: {"team": "research", "gpus": 8}; null = no limit.',
      validator: ({ team, gpus }) => {
        const isCount = gpus === null || (Number.isInteger(gpus) && gpus >= 0);
        if (typeof team === 'string' && team !== '' && isCount) return;
        throw ApplicationFailure.nonRetryable(
          `A quota needs a team and a whole number of GPUs or null, got ${JSON.stringify({ team, gpus })}.`,
          'bad_request',
        );
      },
    },
  );
}

function forgetRequest(state: PoolState, id: string): void {
  state.waiting = state.waiting.filter(({ request }) => request.id !== id);
  state.grants = state.grants.filter(({ request }) => request.id !== id);
}

async function decide(state: PoolState, limits: WaitLimits): Promise<Decision> {
  const input = { state, nowMs: Date.now(), limits };
  return patched('decided-outside') ? await decideHosts(input) : decideGrants(input);
}

async function carryOut(decision: Decision, state: PoolState, changed: () => void): Promise<void> {
  const { granted, refused, waiting, kept, servedMs } = decision;
  const tooMany = waiting.slice(WAITING_MAX).map(({ request }) => ({
    request,
    why: `The pool has ${WAITING_MAX} waiting requests already; resume run ${request.run} later.`,
  }));
  const grants = [...state.grants, ...granted];
  Object.assign(state, { waiting: waiting.slice(0, WAITING_MAX), grants, kept, servedMs } satisfies Partial<PoolState>);
  for (const { request, why } of [...refused, ...tooMany]) await answer(request, { id: request.id, refused: why });
  for (const { request, hosts } of granted) {
    if (await answer(request, { id: request.id, granted: hosts })) continue;
    forgetRequest(state, request.id);
    changed();
  }
}

/** false when the gang's workflow has ended. */
async function answer({ workflowId, workflowRunId }: HostRequest, said: PoolAnswer): Promise<boolean> {
  try {
    await getExternalWorkflowHandle(workflowId, workflowRunId).signal(POOL.answer, said);
    return true;
  } catch {
    return false;
  }
}

/** How long to wait for news; null = for ever. */
function lookMs(state: PoolState, limits: NonNullable<GpuPoolInput['limits']>): number | null {
  const impossible = state.waiting.flatMap(({ impossibleSinceMs }) => impossibleSinceMs ?? []);
  const deadlines = impossible.map((since) => since + (limits.impossibleMs ?? WAIT_LIMITS.impossibleMs) - Date.now());
  if (state.waiting.length > 0) return Math.max(1, Math.min(limits.lookMs ?? LOOK_MS.waiting, ...deadlines));
  return state.grants.length > 0 ? LOOK_MS.quiet : null;
}

/** Frees what gangs hold, or wait for, whose workflows have ended. */
async function reclaim(state: PoolState): Promise<void> {
  const holders: Pick<Grant, 'request'>[] = [...state.grants, ...state.waiting];
  if (holders.length === 0) return;
  const ended = await findEnded(
    holders.map(({ request: { id, workflowId, workflowRunId } }) => ({ id, workflowId, workflowRunId })),
  );
  for (const id of ended) forgetRequest(state, id);
}
