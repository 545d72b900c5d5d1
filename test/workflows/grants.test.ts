// Whom the pool grants its hosts: all or none, in order, within quotas, and nobody starves.
import { describe, expect, test } from 'vitest';
import type { HostRequest, PoolHost, PoolState, WaitingRequest } from '../../src/contracts/pool.ts';
import { decideGrants } from '../../src/workflows/policies/grants.ts';

const HOUR = 3_600_000;
const NOW = 100 * HOUR;

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
  const { granted, refused, waiting: left } = decideGrants(state, nowMs, HOUR);
  return {
    granted: Object.fromEntries(granted.map((grant) => [grant.request.run, grant.hosts])),
    refused: Object.fromEntries(refused.map(({ request: of, why }) => [of.run, why])),
    waiting: Object.fromEntries(left.map(({ request: of, why }) => [of.run, why])),
    left,
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
      'Run big needs 4 hosts with 2 GPUs each, and the pool has 1; start more GPU workers, or lower `train.hosts` or `train.processes`.',
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
