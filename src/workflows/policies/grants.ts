// Which waiting requests get their hosts now: all of them or none. Pure; the pool does what is decided here.
//
// Teams take turns: by the priority of their most urgent request, of equal ones that which holds the
// fewest GPUs, then that which was served longest ago. Within a team requests are
// served by priority, then by arrival. Who waits long rises in priority, so that urgent requests do not starve the others for ever: within
// its team a request that waits, among the teams one that has got nothing meanwhile. A request that has to wait for busy hosts reserves
// every host that it could use, so that smaller ones behind it do not starve it, and after a while also keeps them from the queue that all
// share; one that waits for its team's quota holds up its own team only; one that the pool is too small for holds up nobody.

import { plural } from '../../contracts/plural.ts';
import type {
  DecideInput,
  Decision,
  Grant,
  HostRequest,
  PoolHost,
  PoolState,
  WaitingRequest,
  WaitLimits,
} from '../../contracts/pool.ts';

/** Who waits rises by one priority in so long, ms. */
const RISE_MS = 60 * 60_000;
/** Nobody rises further. */
const HIGHEST = 1;
type Fate =
  | { is: 'granted'; hosts: string[] }
  | { is: 'refused'; why: string }
  /** `reserved`: hosts that nobody behind it gets. */
  | { is: 'waiting'; why: string; impossibleSinceMs: number | null; reserved: string[] };

/** What the requests so far have left. */
interface Left {
  state: PoolState;
  nowMs: number;
  limits: WaitLimits;
  /** Names of hosts that are granted or reserved. */
  taken: Set<string>;
  /** GPUs by team. */
  held: Map<string, number>;
  /** When a team was last granted anything, ms since the epoch. */
  servedMs: Record<string, number>;
  /** Teams that wait for their quota. */
  heldUp: Set<string>;
}

export function decideGrants({ state, nowMs, limits }: DecideInput): Decision {
  const servedMs = { ...state.servedMs };
  const decision: Decision = { granted: [], refused: [], waiting: [], kept: {}, servedMs };
  const taken = new Set(state.grants.flatMap(({ hosts }) => hosts));
  const left: Left = { state, nowMs, limits, taken, held: heldByTeam(state.grants), servedMs, heldUp: new Set() };
  const open = [...state.waiting];
  while (open.length > 0) {
    const waiting = takeNext(open, left);
    const { request } = waiting;
    const fate = decideOne(waiting, left);
    if (fate.is === 'refused') decision.refused.push({ request, why: fate.why });
    else if (fate.is === 'granted') {
      decision.granted.push({ request, hosts: fate.hosts, sinceMs: nowMs });
      left.held.set(request.team, (left.held.get(request.team) ?? 0) + sizeOf(request));
      servedMs[request.team] = nowMs;
      for (const name of fate.hosts) taken.add(name);
    } else {
      const { why, impossibleSinceMs, reserved } = fate;
      decision.waiting.push({ ...waiting, impossibleSinceMs, why });
      for (const name of reserved) {
        if (nowMs - waiting.sinceMs >= limits.keepMs) decision.kept[name] ??= request.run;
        taken.add(name);
      }
    }
  }
  return decision;
}

/** Takes the one whose turn it is out of `open`. */
function takeNext(open: WaitingRequest[], left: Left): WaitingRequest {
  const teams = new Set(open.map(({ request }) => request.team));
  const turns = [...teams].map((team) =>
    turnOf(
      open.filter(({ request }) => request.team === team),
      left,
    ),
  );
  const { first } = turns.reduce((best, one) => (isBefore(one, best) ? one : best));
  open.splice(open.indexOf(first), 1);
  return first;
}

/** What a team would do with its turn, and what decides whether it has it. */
interface Turn {
  first: WaitingRequest;
  rank: number;
  held: number;
  servedMs: number;
}

function turnOf(own: WaitingRequest[], { nowMs, held, servedMs }: Left): Turn {
  const rise = (fromMs: number) => Math.floor((nowMs - fromMs) / RISE_MS);
  const rank = ({ request, sinceMs }: WaitingRequest) => Math.max(HIGHEST, request.priority - rise(sinceMs));
  const first = own.reduce((best, one) => ((rank(one) - rank(best) || one.sinceMs - best.sinceMs) < 0 ? one : best));
  const { team } = first.request;
  const oldestMs = Math.min(...own.map(({ sinceMs }) => sinceMs));
  const priority = Math.min(...own.map(({ request }) => request.priority));
  const served = servedMs[team] ?? 0;
  return {
    ...{ first, held: held.get(team) ?? 0, servedMs: served },
    rank: Math.max(HIGHEST, priority - rise(Math.max(oldestMs, served))),
  };
}

function isBefore(a: Turn, b: Turn): boolean {
  return (a.rank - b.rank || a.held - b.held || a.servedMs - b.servedMs || a.first.sinceMs - b.first.sinceMs) < 0;
}

function decideOne({ request, impossibleSinceMs }: WaitingRequest, left: Left): Fate {
  const { state, nowMs, taken, heldUp } = left;
  const quota = state.quotas[request.team] ?? Number.POSITIVE_INFINITY;
  if (sizeOf(request) > quota) return { is: 'refused', why: tooMuchForTeam(request, quota) };

  const possible = candidates(request, state.hosts);
  if (possible.length === 0) {
    const since = impossibleSinceMs ?? nowMs;
    const why = [tooMuchForPool(request, state.hosts), ...remedyOf(request, state.hosts)].join(' ');
    if (nowMs - since >= left.limits.impossibleMs) return { is: 'refused', why };
    return { is: 'waiting', why, impossibleSinceMs: since, reserved: [] };
  }

  const waits = (why: string, reserved: string[]): Fate => ({ is: 'waiting', why, impossibleSinceMs: null, reserved });
  const held = left.held.get(request.team) ?? 0;
  if (heldUp.has(request.team) || held + sizeOf(request) > quota) {
    heldUp.add(request.team);
    return waits(`Team ${request.team} holds ${held} of its ${quota} GPUs.`, []);
  }
  const isFree = ({ name, isAway = false }: PoolHost) => !taken.has(name) && !isAway;
  const [free] = candidates(request, state.hosts.filter(isFree));
  if (free !== undefined) return { is: 'granted', hosts: free.slice(0, request.hosts).map(({ name }) => name) };
  return waits(
    `It waits for ${plural(request.hosts, 'host')} to be free at once.`,
    possible.flat().map(({ name }) => name),
  );
}

/** Groups of like hosts that are large enough, the best one first, each with its best hosts first. */
function candidates(request: HostRequest, hosts: PoolHost[]): PoolHost[][] {
  const groups = new Map<string, PoolHost[]>();
  for (const host of hosts.filter(({ slots }) => slots >= request.processes)) {
    const kind = kindOf(host);
    const group = groups.get(kind);
    if (group === undefined) groups.set(kind, [host]);
    else group.push(host);
  }
  const prefer = new Set(request.prefer);
  const kept = (host: PoolHost) => (prefer.has(host.name) ? 0 : 1);
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

function kindOf({ device, labels }: PoolHost): string {
  return `${device} ${labels}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

export function sizeOf({ hosts, processes }: HostRequest): number {
  return hosts * processes;
}

export function usedBy(team: string, grants: Grant[]): number {
  return heldByTeam(grants).get(team) ?? 0;
}

function heldByTeam(grants: Grant[]): Map<string, number> {
  const held = new Map<string, number>();
  for (const { request } of grants) held.set(request.team, (held.get(request.team) ?? 0) + sizeOf(request));
  return held;
}

/** Why these hosts, all free, would not be enough; null when they are. */
export function describeLackOfHosts(request: HostRequest, hosts: PoolHost[]): string | null {
  return candidates(request, hosts).length > 0 ? null : tooMuchForPool(request, hosts);
}

function tooMuchForTeam(request: HostRequest, quota: number): string {
  return `Run ${request.run} needs ${plural(sizeOf(request), 'GPU')} at once and team ${request.team} may hold ${quota}; lower \`train.hosts\`, or raise the quota with \`anneal pool quota ${request.team} ${sizeOf(request)}\`.`;
}

function tooMuchForPool(request: HostRequest, hosts: PoolHost[]): string {
  const fitting = hosts.filter(({ slots }) => slots >= request.processes).length;
  const alike = new Set(hosts.map(kindOf)).size > 1 ? ' of one kind' : '';
  return `Run ${request.run} needs ${plural(request.hosts, 'host')}${alike} with ${plural(request.processes, 'GPU')} each, and the pool has ${fitting}; start more GPU workers, or lower \`train.hosts\` or \`train.processes\`.`;
}

/** What a run can do that was submitted already: as many hosts as share its batch equally, and as there are of one kind. */
function remedyOf({ run, hosts: wanted, processes }: HostRequest, hosts: PoolHost[]): string[] {
  const fitting = hosts.filter(({ slots }) => slots >= processes).map(kindOf);
  const most = Math.max(1, ...[...new Set(fitting)].map((kind) => fitting.filter((its) => its === kind).length));
  let fewer = Math.min(most, wanted - 1);
  while (fewer > 1 && wanted % fewer !== 0) fewer--;
  return wanted === 1 ? [] : [`\`anneal resume ${run} --hosts ${fewer}\` goes on with ${plural(fewer, 'host')}.`];
}
