// Which loopback ports the embedded stack takes, and who holds one that is taken.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { AnnealError } from '../contracts/failure.ts';

export interface StackPorts {
  /** gRPC of Temporal; its HTTP API and metrics lie on the two ports above. */
  temporal: number;
  webUi: number;
  /** S3; eight inner ports of the object server lie above, one more at +10,004. */
  store: number;
  gateway: number;
}

export type PortName = keyof StackPorts;

export const DEFAULT_PORTS: StackPorts = { temporal: 7233, webUi: 8233, store: 8333, gateway: 8080 };

/** Any free ports: for tests and drills, which may run beside a stack and beside each other. */
export const FREE_PORTS: StackPorts = { temporal: 0, webUi: 0, store: 0, gateway: 0 };

const FLAGS: Record<PortName, string> = {
  temporal: '--temporal-port',
  webUi: '--web-ui-port',
  store: '--store-port',
  gateway: '--gateway-port',
};

/** Ports that one name stands for, as distances from it. The object server dials its admin port + 10,000 whatever it is told. */
const SPANS: Record<PortName, number[]> = {
  temporal: [0, 1, 2],
  webUi: [0],
  store: [0, 1, 2, 3, 4, 5, 6, 7, 8, 10_004],
  gateway: [0],
};

/** Free ports are looked for below the range that systems hand out to outgoing connections (32,768 and up on Linux). */
const FREE_PORT_MIN = 12_000;
const FREE_PORT_MAX = 22_000;
const FREE_PORT_TRIES_MAX = 200;

/**
 * Fills in what was not asked for: a default for a missing port, free ones for 0. `names`: the ports that will be opened.
 * @throws AnnealError `bad_request` naming every wanted port that is taken, by whom, and the flag that moves it.
 */
export async function choosePorts(wanted: Partial<StackPorts>, names: PortName[]): Promise<StackPorts> {
  const ports: StackPorts = { ...DEFAULT_PORTS, ...wanted };
  const taken: string[] = [];
  for (const name of Object.keys(ports) as PortName[]) {
    // Also for a part that this stack lacks: others read its address, and 0 is none.
    if (ports[name] === 0) ports[name] = await findFreeSpan(SPANS[name], spansOf(ports));
    else if (names.includes(name)) taken.push(...(await describeTaken(name, ports[name])));
  }
  if (taken.length > 0) throw new AnnealError('bad_request', taken.join('\n'));
  return ports;
}

export async function isPortFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A sentence for each program that holds ports of the span. */
export async function describeTaken(name: PortName, port: number): Promise<string[]> {
  const byHolder = new Map<string, number[]>();
  for (const distance of SPANS[name]) {
    if (await isPortFree(port + distance)) continue;
    const holder = findHolder(port + distance);
    const by = holder === null ? 'another program' : `process ${holder.pid} (${holder.name})`;
    byHolder.set(by, [...(byHolder.get(by) ?? []), port + distance]);
  }
  return [...byHolder].map(([by, ports]) => {
    const which = ports.length === 1 ? `Port ${ports[0]} (${name}) is` : `Ports ${ports.join(', ')} (${name}) are`;
    return `${which} taken by ${by}; end it or choose another with ${FLAGS[name]}.`;
  });
}

function spansOf(ports: StackPorts): number[] {
  return (Object.entries(ports) as [PortName, number][]).flatMap(([name, port]) => SPANS[name].map((d) => port + d));
}

async function findFreeSpan(span: number[], promised: number[]): Promise<number> {
  for (let attempt = 0; attempt < FREE_PORT_TRIES_MAX; attempt += 1) {
    const base = FREE_PORT_MIN + Math.floor(Math.random() * (FREE_PORT_MAX - FREE_PORT_MIN));
    if (span.some((distance) => promised.includes(base + distance))) continue;
    const free = await Promise.all(span.map((distance) => isPortFree(base + distance)));
    if (free.every(Boolean)) return base;
  }
  throw new AnnealError(
    'bad_request',
    `No ${span.length} free ports were found between ${FREE_PORT_MIN} and ${FREE_PORT_MAX} in ${FREE_PORT_TRIES_MAX} tries; end what holds them.`,
  );
}

/** Who listens on a port; null where the system does not say (another user's process, no /proc). */
function findHolder(port: number): { pid: number; name: string } | null {
  const inodes = new Set(['/proc/net/tcp', '/proc/net/tcp6'].flatMap((table) => listeningInodes(table, port)));
  if (inodes.size === 0) return null;
  for (const pid of readdirOrNone('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const holds = readdirOrNone(`/proc/${pid}/fd`).some((fd) => inodes.has(readLinkOrNone(`/proc/${pid}/fd/${fd}`)));
    if (holds) return { pid: Number(pid), name: readOrNone(`/proc/${pid}/comm`).trim() };
  }
  return null;
}

/** Sockets in state 0A (LISTEN) on the port, in the form in which `/proc/<pid>/fd` shows them. */
function listeningInodes(table: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return readOrNone(table)
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(suffix) && fields[3] === '0A')
    .map((fields) => `socket:[${fields[9]}]`);
}

function readOrNone(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function readdirOrNone(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function readLinkOrNone(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
