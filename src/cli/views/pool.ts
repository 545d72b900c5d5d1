// The GPU pool for a terminal. State in, lines out.
import type { HostMemory, PoolState } from '../../contracts/pool.ts';
import { gib } from '../../plan/memory-check.ts';
import { usedBy } from '../../workflows/policies/grants.ts';
import { formatAge, formatCount, type Paint, table } from './format.ts';

/** Of each GPU, or of the host. */
function memoryText(memory: HostMemory | undefined): string {
  if (memory === undefined) return '';
  const { gpu, memoryBytes } = memory;
  return gpu === null ? gib(memoryBytes) : `${gib(gpu.memoryBytes)} ${gpu.name}`;
}

export function poolTables({ hosts, grants, waiting, quotas }: PoolState, nowMs: number, paint: Paint): string[] {
  if (hosts.length === 0 && waiting.length === 0 && grants.length === 0 && Object.keys(quotas).length === 0) {
    return ['The pool is empty; every GPU worker joins it by itself when it starts.'];
  }
  const head = (titles: string[]) => titles.map((title) => paint.dim(title));
  const section = (titles: string[], rows: string[][], right: number[] = []) =>
    rows.length === 0 ? [] : [...table([head(titles), ...rows], right), ''];
  const grantOf = (name: string) => grants.find((grant) => grant.hosts.includes(name));
  const lines = [
    ...section(
      ['HOST', 'SLOTS', 'KIND', 'MEMORY', 'LABELS', 'RUN', 'FOR'],
      hosts.map(({ name, slots, device, memory, labels, isAway }) => {
        const grant = grantOf(name);
        const other = isAway ? 'a run on one host' : '';
        const held = grant === undefined ? [other, ''] : [grant.request.run, formatAge(nowMs - grant.sinceMs)];
        return [name, formatCount(slots), device, memoryText(memory), labels, ...held];
      }),
      [1],
    ),
    ...section(
      ['WAITING', 'TEAM', 'PRIORITY', 'HOSTS', 'RANKS', 'AGE', 'WHY'],
      waiting.map(({ request, sinceMs, why }) => [
        request.run,
        request.team,
        `${request.priority}`,
        formatCount(request.hosts),
        formatCount(request.processes),
        formatAge(nowMs - sinceMs),
        why,
      ]),
      [2, 3, 4],
    ),
    ...section(
      ['TEAM', 'HOLDS', 'QUOTA'],
      Object.entries(quotas).map(([team, gpus]) => [team, formatCount(usedBy(team, grants)), formatCount(gpus)]),
      [1, 2],
    ),
  ];
  return lines.slice(0, -1);
}
