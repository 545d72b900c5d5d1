// What the machine must bring: a Node that runs TypeScript, disk, memory, and free ports for the stack.
import { existsSync, readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { type Check, finding } from './check.ts';
import { DISK_BYTES_MIN, formatGib, freeDiskBytes } from './disk.ts';
import { DEFAULT_PORTS, describeTaken, type PortName } from './ports.ts';

const GIB = 1024 ** 3;

/** First Node that runs TypeScript sources without a flag. */
const NODE_MIN = [22, 18] as const;

/** Trainer and gateway hold a base model each (0.5 GB in fp32) on top of PyTorch; servers and workers need 1 GB more. */
const MEMORY_BYTES_MIN = 4 * GIB;

export async function checkMachine(state: string, stackRuns: boolean): Promise<Check[]> {
  // A running stack holds its ports and its memory itself.
  const whenIdle = stackRuns ? [] : [checkMemory(), await checkPorts()];
  return [checkNode(), checkDisk(state), ...whenIdle];
}

function checkNode(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const ok = major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1]);
  const remedy = `Install Node ${NODE_MIN.join('.')} or later, or delete .anneal/venv and let the set-up bring one.`;
  return finding('node', ok, `${process.version} (${process.execPath})`, remedy);
}

function checkDisk(state: string): Check {
  const free = freeDiskBytes(state);
  const remedy = `Free at least ${formatGib(DISK_BYTES_MIN)} on the disk that holds ${state}.`;
  return finding('disk', free >= DISK_BYTES_MIN, `${formatGib(free)} free`, remedy);
}

function checkMemory(): Check {
  const available = readAvailableMemory();
  const remedy = `End other programs: training the demo needs ${MEMORY_BYTES_MIN / GIB} GB.`;
  return finding('memory', available >= MEMORY_BYTES_MIN, `${formatGib(available)} available`, remedy);
}

/** Linux counts caches as used; what a program can really get is another line. */
function readAvailableMemory(): number {
  if (!existsSync('/proc/meminfo')) return freemem();
  const line = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'));
  return line === null ? freemem() : Number(line[1]) * 1024;
}

async function checkPorts(): Promise<Check> {
  const names = Object.keys(DEFAULT_PORTS) as PortName[];
  const taken = (await Promise.all(names.map((name) => describeTaken(name, DEFAULT_PORTS[name])))).flat();
  const found = taken.length === 0 ? `${Object.values(DEFAULT_PORTS).join(', ')} are free` : `${taken.length} taken`;
  return finding('ports', taken.length === 0, found, taken.join(' '));
}
