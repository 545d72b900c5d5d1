// Which waiting requests get their hosts now: all of them or none. Pure; the pool does what is decided here.
//
// Requests are served by priority, then by arrival. One that has to wait for busy hosts reserves every host that it could use, so that
// smaller ones behind it do not starve it; one that waits for its team's quota holds up its own team only; one that the pool is too
// small for holds up nobody. What waits long rises in priority, so that urgent requests do not starve the others for ever.
import type { Grant, HostRequest, PoolHost, PoolState, WaitingRequest } from '../../contracts/pool.ts';

/** A request rises by one priority in so long, ms. */
const RISE_MS = 60 * 60_000;

export interface Decision {
  granted: Grant[];
  refused: { request: HostRequest; why: string }[];
  waiting: WaitingRequest[];
}

/** @param impossibleMsMax how long the pool may be too small for a request before it is refused. */
export function decideGrants(state: PoolState, nowMs: number, impossibleMsMax: number): Decision {
  const decision: Decision = { granted: [], refused: [], waiting: [] };
  const taken = new Set(state.grants.flatMap(({ hosts }) => hosts));
  const heldUp = new Set<string>();
  for (const waiting of inOrder(state.waiting, nowMs)) {
    const { request } = waiting;
    const refuse = (why: string) => decision.refused.push({ request, why });
    const wait = (why: string) => decision.waiting.push({ ...waiting, impossibleSinceMs: null, why });
    const quota = state.quotas[request.team] ?? Number.POSITIVE_INFINITY;
    const used = usedBy(request.team, [...state.grants, ...decision.granted]);
    const possible = candidates(request, state.hosts);
    if (sizeOf(request) > quota) {
      refuse(tooMuchForTeam(request, quota));
    } else if (possible.length === 0) {
      const since = waiting.impossibleSinceMs ?? nowMs;
      const why = tooMuchForPool(request, state.hosts);
      if (nowMs - since >= impossibleMsMax) refuse(why);
      else decision.waiting.push({ ...waiting, impossibleSinceMs: since, why });
    } else if (heldUp.has(request.team) || used + sizeOf(request) > quota) {
      heldUp.add(request.team);
      wait(`Team ${request.team} holds ${used} of its ${quota} GPUs.`);
    } else {
      const free = candidates(
        request,
        state.hosts.filter(({ name }) => !taken.has(name)),
      )[0];
      if (free === undefined) {
        for (const host of possible.flat()) taken.add(host.name);
        wait(`It waits for ${plural(request.hosts, 'host')} to be free at once.`);
      } else {
        const hosts = free.slice(0, request.hosts).map(({ name }) => name);
        for (const name of hosts) taken.add(name);
        decision.granted.push({ request, hosts, sinceMs: nowMs });
      }
    }
  }
  return decision;
}

function inOrder(waiting: WaitingRequest[], nowMs: number): WaitingRequest[] {
  const rank = ({ request, sinceMs }: WaitingRequest) => request.priority - Math.floor((nowMs - sinceMs) / RISE_MS);
  return [...waiting].sort((a, b) => rank(a) - rank(b) || a.sinceMs - b.sinceMs);
}

/** Groups of like hosts that are large enough, the best one first, each with its best hosts first. */
function candidates(request: HostRequest, hosts: PoolHost[]): PoolHost[][] {
  const groups = new Map<string, PoolHost[]>();
  for (const host of hosts.filter(({ slots }) => slots >= request.processes)) {
    const kind = `${host.device} ${host.labels}`;
    groups.set(kind, [...(groups.get(kind) ?? []), host]);
  }
  const kept = (host: PoolHost) => (request.prefer.includes(host.name) ? 0 : 1);
  const wanted = request.device === 'cpu' ? 'cpu' : 'gpu';
  const misses = (group: PoolHost[]) => group.slice(0, request.hosts).reduce((sum, host) => sum + kept(host), 0);
  return [...groups.values()]
    .filter((group) => group.length >= request.hosts)
    .map((group) => group.sort((a, b) => kept(a) - kept(b) || a.slots - b.slots || compare(a.name, b.name)))
    .sort(
      (a, b) =>
        misses(a) - misses(b) ||
        Number(a[0]?.device !== wanted) - Number(b[0]?.device !== wanted) ||
        (a[0]?.slots ?? 0) - (b[0]?.slots ?? 0) ||
        compare(a[0]?.name ?? '', b[0]?.name ?? ''),
    );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

export function sizeOf({ hosts, processes }: HostRequest): number {
  return hosts * processes;
}

export function usedBy(team: string, grants: Grant[]): number {
  return grants.reduce((sum, { request }) => sum + (request.team === team ? sizeOf(request) : 0), 0);
}

function tooMuchForTeam(request: HostRequest, quota: number): string {
  return `Run ${request.run} needs ${plural(sizeOf(request), 'GPU')} at once and team ${request.team} may hold ${quota}; lower \`train.hosts\`, or raise the quota with \`anneal pool quota ${request.team} ${sizeOf(request)}\`.`;
}

function tooMuchForPool(request: HostRequest, hosts: PoolHost[]): string {
  const fitting = hosts.filter(({ slots }) => slots >= request.processes).length;
  const alike = new Set(hosts.map(({ device, labels }) => `${device} ${labels}`)).size > 1 ? ' of one kind' : '';
  return `Run ${request.run} needs ${plural(request.hosts, 'host')}${alike} with ${plural(request.processes, 'GPU')} each, and the pool has ${fitting}; start more GPU workers, or lower \`train.hosts\` or \`train.processes\`.`;
}

function plural(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
