// The page of the GPU pool in the Web UI, as Markdown: state in, text out.
import type { PoolHost, PoolState } from '../contracts/pool.ts';
import { table } from './markdown-table.ts';
import { sizeOf, usedBy } from './policies/grants.ts';

/** The page must fit into 20 000 bytes; what is left out is counted. */
const ROWS_MAX = 50;

export function renderPoolPage(state: PoolState): string {
  const { hosts, grants, waiting, quotas } = state;
  const holder = ({ name, isAway }: PoolHost) => {
    const grant = grants.find((one) => one.hosts.includes(name));
    return grant === undefined ? (isAway ? 'a run on one host' : 'free') : link(grant.request.run);
  };
  const slots = ({ slots: n, device }: PoolHost) =>
    device === 'gpu' ? counted(n, 'GPU') : counted(n, 'CPU process', 'es');
  const places = hosts.map((host) => [host.name, slots(host), host.labels, holder(host)]);
  const requests = waiting.map(({ request, why }) => {
    const { run, team, priority, hosts: wanted, processes } = request;
    return [team, `${priority}`, `${counted(wanted, 'host')} × ${counted(processes, 'rank')}`, `${link(run)}: ${why}`];
  });
  const teams = Object.entries(quotas).map(([team, gpus]) => [team, `${usedBy(team, grants)} of ${gpus}`]);
  const held = grants.reduce((sum, { request }) => sum + sizeOf(request), 0);
  return [
    hosts.length === 0
      ? 'No host is here. Every GPU worker joins when it starts.'
      : `**${counted(hosts.length, 'host')}**, ${counted(grants.length, 'gang')} with ${counted(held, 'rank')}, **${waiting.length} waiting**`,
    ...section('Waiting', ['team', 'priority', 'wants', 'run, and why it waits'], requests),
    ...section('Hosts', ['host', 'room', 'labels', 'works for'], places),
    ...section('Quotas', ['team', 'GPUs held'], teams),
  ].join('\n\n');
}

function section(title: string, head: string[], rows: string[][]): string[] {
  if (rows.length === 0) return [];
  const more = rows.length > ROWS_MAX ? [`and ${rows.length - ROWS_MAX} more`] : [];
  return [`### ${title}`, table(head, rows.slice(0, ROWS_MAX)), ...more];
}

/** The Web UI fills in the namespace. */
function link(run: string): string {
  return `[${run}](/namespaces/{namespace}/workflows/${run})`;
}

function counted(n: number, noun: string, plural = 's'): string {
  return `${n} ${noun}${n === 1 ? '' : plural}`;
}
