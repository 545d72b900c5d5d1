// The page of the GPU pool in the Web UI, as Markdown: state in, text out.
import type { PoolHost, PoolState } from '../contracts/pool.ts';
import { sizeOf, usedBy } from './policies/grants.ts';

/** The page must fit into 20 000 bytes; what is left out is counted. */
const ROWS_MAX = 50;

export function renderPoolPage(state: PoolState): string {
  const { hosts, grants, waiting, quotas } = state;
  const holder = ({ name, isAway }: PoolHost) =>
    grants.find((grant) => grant.hosts.includes(name))?.request.run ?? (isAway ? 'a run on one host' : 'free');
  const places = hosts.map((host) => [host.name, `${host.slots} ${host.device}`, host.labels, holder(host)]);
  const requests = waiting.map(({ request, why }) => [
    request.run,
    request.team,
    `${request.priority}`,
    `${request.hosts} × ${request.processes}`,
    why,
  ]);
  const teams = Object.entries(quotas).map(([team, gpus]) => [team, `${usedBy(team, grants)} of ${gpus}`]);
  const held = grants.reduce((sum, { request }) => sum + sizeOf(request), 0);
  return [
    `**${hosts.length}** hosts, **${grants.length}** gangs on ${held} GPUs, **${waiting.length}** waiting`,
    ...table('Hosts', ['host', 'slots', 'labels', 'run'], places),
    ...table('Waiting', ['run', 'team', 'priority', 'hosts × ranks', 'why'], requests),
    ...table('Quotas', ['team', 'GPUs'], teams),
  ].join('\n\n');
}

function table(title: string, head: string[], rows: string[][]): string[] {
  if (rows.length === 0) return [];
  // The Web UI draws no borders: an em space keeps cells apart.
  const line = (cells: string[]) => `| ${cells.map((cell) => `${cell.replaceAll('|', '\\|')}\u2003`).join(' | ')} |`;
  const shown = rows.slice(0, ROWS_MAX);
  const more = rows.length > ROWS_MAX ? [`and ${rows.length - ROWS_MAX} more`] : [];
  return [`### ${title}`, [line(head), `|${' :-- |'.repeat(head.length)}`, ...shown.map(line)].join('\n'), ...more];
}
