// Whom the pool grants its hosts: all or none, in order, within quotas, and nobody starves.
import { describe, expect, test } from 'vitest';
import type { HostRequest, PoolHost, PoolState, WaitingRequest } from '../../src/contracts/pool.ts';
import { seededRandom } from '../../src/evaluation/seeded-random.ts';
import { decideGrants } from '../../src/workflows/policies/grants.ts';

const HOUR = 3_600_000;
const NOW = 100 * HOUR;
const LIMITS = { impossibleMs: HOUR, keepMs: 600_000 };

const host = (name: string, more: Partial<PoolHost> = {}): PoolHost => ({
  ...{ name, bootId: 'b', device: 'gpu', slots: 8, labels: '', ...more },
});

function request(run: string, hosts: number, more: Partial<HostRequest> = {}): HostRequest {
  const own = { id: run, workflowId: `${run}-gang`, workflowRunId: 'r', run };
  return { ...own, team: 'default', priority: 3, hosts, processes: 8, device: 'auto', prefer: [], ...more };
}

const waits = (of: HostRequest, sinceMs = NOW - 1_000): WaitingRequest => ({
  ...{ request: of, sinceMs, impossibleSinceMs: null, why: '' },
});

interface Given {
  hosts: PoolHost[];
  waiting: WaitingRequest[];
  held?: [HostRequest, string[]][];
  quotas?: Record<string, number>;
}

function decide({ hosts, waiting, held = [], quotas = {} }: Given, nowMs = NOW) {
  const grants = held.map(([of, names]) => ({ request: of, hosts: names, sinceMs: NOW - HOUR }));
  const state: PoolState = { hosts, waiting, grants, quotas };
  const { granted, refused, waiting: left, kept } = decideGrants({ state, nowMs, limits: LIMITS });
  return {
    granted: Object.fromEntries(granted.map((grant) => [grant.request.run, grant.hosts])),
    refused: Object.fromEntries(refused.map(({ request: of, why }) => [of.run, why])),
    waiting: Object.fromEntries(left.map(({ request: of, why }) => [of.run, why])),
    left,
    kept,
  };
}

const four = ['a', 'b', 'c', 'd'].map((name) => host(name));

describe('the pool', () => {
  test('grants all hosts or none: two gangs that each want three of four do not hold two each', () => {
    const { granted, waiting } = decide({ hosts: four, waiting: [waits(request('x', 3)), waits(request('y', 3))] });
    expect(granted).toEqual({ x: ['a', 'b', 'c'] });
    expect(waiting).toEqual({ y: 'It waits for 3 hosts to be free at once.' });
  });

  test('serves by priority, then by arrival', () => {
    const waiting = [
      waits(request('late', 2), NOW - 1_000),
      waits(request('early', 2), NOW - 2_000),
      waits(request('urgent', 2, { priority: 1 }), NOW),
    ];
    expect(Object.keys(decide({ hosts: four, waiting }).granted)).toEqual(['urgent', 'early']);
  });

  test('a large request is not starved by small ones behind it', () => {
    const held: Given['held'] = [[request('running', 1), ['a']]];
    const waiting = [waits(request('large', 4), NOW - 2_000), waits(request('small', 1))];
    expect(decide({ hosts: four, held, waiting }).granted).toEqual({});
    expect(decide({ hosts: four, waiting }).granted).toEqual({ large: ['a', 'b', 'c', 'd'] });
  });

  test('what a waiting request cannot use is not kept from others', () => {
    const hosts = [host('a'), host('b'), host('c', { slots: 2 })];
    const held: Given['held'] = [[request('running', 1), ['a']]];
    const waiting = [waits(request('large', 2), NOW - 2_000), waits(request('small', 1, { processes: 2 }))];
    expect(decide({ hosts, held, waiting }).granted).toEqual({ small: ['c'] });
  });

  test('who waits long rises, so that urgent requests do not starve it for ever', () => {
    const waiting = [
      waits(request('patient', 4, { priority: 5 }), NOW - 5 * HOUR),
      waits(request('urgent', 4, { priority: 1 })),
    ];
    expect(decide({ hosts: four, waiting }).granted).toEqual({ patient: ['a', 'b', 'c', 'd'] });
  });

  test('of equal priority the team that holds the fewest GPUs is next, and within a team the oldest', () => {
    const held: Given['held'] = [[request('running', 1, { team: 'x' }), ['d']]];
    const waiting = [
      waits(request('x1', 1, { team: 'x' }), NOW - 9_000),
      waits(request('y1', 1, { team: 'y' }), NOW - 8_000),
      waits(request('y2', 1, { team: 'y' }), NOW - 7_000),
      waits(request('z1', 1, { team: 'z' }), NOW - 1_000),
    ];
    expect(Object.keys(decide({ hosts: four, held, waiting }).granted)).toEqual(['y1', 'z1', 'x1']);
    const urgent = [...waiting, waits(request('x2', 1, { team: 'x', priority: 2 }))];
    expect(Object.keys(decide({ hosts: four, held, waiting: urgent }).granted)).toEqual(['x2', 'y1', 'z1']);
  });

  test('hosts that work for the shared queue are waited for, not refused; after a while they take nothing new from it', () => {
    const hosts = [host('a'), host('b', { isAway: true })];
    const waiting = [waits(request('large', 2))];
    const first = decide({ hosts, waiting });
    expect(first.waiting).toEqual({ large: 'It waits for 2 hosts to be free at once.' });
    expect(first.left[0]?.impossibleSinceMs).toBeNull();
    expect(first.kept).toEqual({});
    expect(decide({ hosts, waiting }, NOW + 600_000).kept).toEqual({ a: 'large', b: 'large' });
    expect(decide({ hosts: [host('a'), host('b')], waiting }, NOW + 600_000)).toMatchObject({
      granted: { large: ['a', 'b'] },
      kept: {},
    });
  });

  test('a team waits for its own quota, in order, and holds up nobody else', () => {
    const held: Given['held'] = [[request('running', 1, { team: 'x' }), ['a']]];
    const waiting = [
      waits(request('second', 2, { team: 'x' }), NOW - 3_000),
      waits(request('third', 1, { team: 'x' }), NOW - 2_000),
      waits(request('other', 2, { team: 'y' })),
    ];
    const decided = decide({ hosts: four, held, waiting, quotas: { x: 16 } });
    expect(decided.granted).toEqual({ other: ['b', 'c'] });
    expect(decided.waiting).toEqual({
      second: 'Team x holds 8 of its 16 GPUs.',
      third: 'Team x holds 8 of its 16 GPUs.',
    });
  });

  test('more than the quota allows is refused at once, with the remedy', () => {
    const { refused } = decide({ hosts: four, waiting: [waits(request('big', 3, { team: 'x' }))], quotas: { x: 16 } });
    expect(refused.big).toContain('needs 24 GPUs at once and team x may hold 16');
    expect(refused.big).toContain('anneal pool quota x 24');
  });

  test('what the pool is too small for waits a bounded time, holds up nobody, and is refused with the numbers', () => {
    const given = {
      hosts: [host('a')],
      waiting: [waits(request('big', 4, { processes: 2 })), waits(request('ok', 1))],
    };
    const first = decide(given);
    expect(first.granted).toEqual({ ok: ['a'] });
    expect(first.left[0]?.impossibleSinceMs).toBe(NOW);
    const before = decide({ ...given, waiting: first.left }, NOW + HOUR - 1);
    expect(Object.keys(before.waiting)).toEqual(['big']);
    const after = decide({ ...given, waiting: first.left }, NOW + HOUR);
    expect(after.refused.big).toBe(
      'Run big needs 4 hosts with 2 GPUs each, and the pool has 1; start more GPU workers, or lower `train.hosts` or `train.processes`. `anneal resume big --hosts 1` goes on with 1 host.',
    );
  });

  test('a host that is there again in time makes the wait start anew', () => {
    const big = { ...waits(request('big', 2)), impossibleSinceMs: NOW - HOUR / 2 };
    const busy: Given['held'] = [[request('running', 1), ['a']]];
    const { left } = decide({ hosts: [host('a'), host('b')], held: busy, waiting: [big] });
    expect(left[0]?.impossibleSinceMs).toBeNull();
  });

  test('only like hosts train together, those that hold the state first, and a CPU training takes no GPUs where it need not', () => {
    const hosts = [host('a'), host('b', { labels: 'gpu=h100' }), host('c', { labels: 'gpu=h100' }), host('d')];
    expect(decide({ hosts, waiting: [waits(request('x', 2, { prefer: ['d', 'a'] }))] }).granted).toEqual({
      x: ['a', 'd'],
    });
    expect(decide({ hosts, waiting: [waits(request('x', 2, { prefer: ['c'] }))] }).granted).toEqual({ x: ['c', 'b'] });
    expect(decide({ hosts, waiting: [waits(request('x', 3))] }).granted).toEqual({});
    const mixed = [host('g'), host('h', { device: 'cpu', slots: 16 })];
    expect(decide({ hosts: mixed, waiting: [waits(request('x', 1, { device: 'cpu' }))] }).granted).toEqual({
      x: ['h'],
    });
    expect(decide({ hosts: mixed, waiting: [waits(request('x', 1))] }).granted).toEqual({ x: ['g'] });
  });
});

describe('over time, with teams that always want more', () => {
  const TEAMS = ['x', 'y', 'z'];
  const MINUTE = 60_000;
  const QUOTAS = { x: 24, y: 40 };

  interface Course {
    /** Run by its wait, ms. */
    waited: Map<string, number>;
    /** GPU minutes by team. */
    used: Map<string, number>;
  }

  /** A day of minutes; each grant is checked against what there is. */
  function live(seed: number, wish: (draw: () => number, team: string, waiting: number) => HostRequest | null): Course {
    const draw = seededRandom(seed);
    const hosts = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((name, i) =>
      host(name, i < 6 ? {} : { labels: 'gpu=h100' }),
    );
    const course: Course = { waited: new Map(), used: new Map() };
    let state: PoolState = { hosts, waiting: [], grants: [], quotas: QUOTAS };
    const ends = new Map<string, number>();
    for (let nowMs = NOW; nowMs < NOW + 24 * HOUR; nowMs += MINUTE) {
      state.grants = state.grants.filter((grant) => (ends.get(grant.request.run) as number) > nowMs);
      for (const one of state.hosts)
        one.isAway = state.grants.every(({ hosts: its }) => !its.includes(one.name)) && draw() < 0.1;
      for (const team of TEAMS) {
        const own = state.waiting.filter(({ request: of }) => of.team === team);
        const wanted = wish(draw, team, own.length);
        if (wanted !== null) state.waiting.push(waits(wanted, nowMs));
      }
      const before = state;
      const decision = decideGrants({ state, nowMs, limits: LIMITS });
      state = {
        ...state,
        waiting: decision.waiting,
        grants: [...state.grants, ...decision.granted],
        servedMs: decision.servedMs,
      };
      for (const {
        request: { run },
      } of decision.granted) {
        course.waited.set(run, nowMs - (before.waiting.find((its) => its.request.run === run)?.sinceMs as number));
        ends.set(run, nowMs + Math.ceil(1 + draw() * 60) * MINUTE);
      }
      check(before, state, decision);
      for (const { request: of } of state.grants)
        course.used.set(of.team, (course.used.get(of.team) ?? 0) + of.hosts * of.processes);
    }
    for (const { request: of, sinceMs } of state.waiting) course.waited.set(of.run, NOW + 24 * HOUR - sinceMs);
    return course;
  }

  function check(before: PoolState, after: PoolState, { granted, refused, waiting }: ReturnType<typeof decideGrants>) {
    expect(granted.length + refused.length + waiting.length).toBe(before.waiting.length);
    const names = after.grants.flatMap(({ hosts }) => hosts);
    expect(new Set(names).size).toBe(names.length);
    for (const grant of granted) {
      expect(grant.hosts).toHaveLength(grant.request.hosts);
      const own = before.hosts.filter(({ name }) => grant.hosts.includes(name));
      expect(own).toHaveLength(grant.request.hosts);
      expect(own.every(({ slots, isAway }) => slots >= grant.request.processes && !isAway)).toBe(true);
      expect(new Set(own.map(({ labels }) => labels)).size).toBe(1);
    }
    for (const [team, quota] of Object.entries(QUOTAS)) {
      const held = after.grants.filter((grant) => grant.request.team === team);
      expect(held.reduce((sum, { request: of }) => sum + of.hosts * of.processes, 0)).toBeLessThanOrEqual(quota);
    }
  }

  let count = 0;
  const anyRequest = (draw: () => number, team: string): HostRequest | null => {
    if (draw() > 0.05) return null;
    const size = 1 + Math.floor(draw() * 3);
    const priority = 1 + Math.floor(draw() * 5);
    return request(`${team}${count++}`, size, { team, priority, processes: 1 + Math.floor(draw() * 8) });
  };

  test.each([1, 2, 3, 4])('seed %d: never a host twice, never above a quota, never a part of a gang', (seed) => {
    expect(live(seed, anyRequest).waited.size).toBeGreaterThan(100);
  });

  test('nobody starves: a gang as large as the pool gets its hosts though small urgent ones keep coming', () => {
    let asked = false;
    const { waited } = live(9, (draw, team) => {
      if (team === 'z' && !asked) {
        asked = true;
        return request('whole', 6, { team, priority: 5 });
      }
      return draw() < 0.1 ? request(`${team}${count++}`, 1, { team, priority: 1, processes: 1 }) : null;
    });
    // Four steps of priority, an hour each, and the hour that the last small one may still run.
    expect(waited.get('whole')).toBeLessThanOrEqual(6 * HOUR);
  });

  test('three teams share alike, however many requests each has', () => {
    const queued: Record<string, number> = { x: 9, y: 5, z: 3 };
    const { used } = live(10, (_draw, team, waiting) =>
      waiting < (queued[team] as number) ? request(`${team}${count++}`, 1, { team, processes: 1 }) : null,
    );
    const shares = TEAMS.map((team) => used.get(team) as number);
    expect(Math.min(...shares) / Math.max(...shares)).toBeGreaterThan(0.9);
  });
});

// Well within a test's time, and so within the ten seconds of a workflow task.
test('a full pool is decided', () => {
  const hosts = Array.from({ length: 1_000 }, (_, i) => host(`h${i}`));
  const waiting = Array.from({ length: 500 }, (_, i) => waits(request(`r${i}`, 600, { team: `t${i % 50}` })));
  expect(Object.keys(decide({ hosts, waiting }).granted)).toHaveLength(1);
});
