// The embedded Temporal: the dev server on a database file (or in memory), its Web UI, and the search attributes of the product.
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { SEARCH_ATTRIBUTES } from '../contracts/names.ts';
import type { PartPlan } from './part-plan.ts';
import type { StackPorts } from './ports.ts';

/** A health answer that takes longer is none; the next look is 100 ms away. */
const HEALTH_TIMEOUT_MS = 2_000;

/** How long the Web UI shows ended runs; the dev server's own default of one day loses them over a weekend. */
const RETENTION_S = 30 * 24 * 3_600;

/** One partition per queue: with few workers more partitions only delay tasks, and priorities hold only within one. */
const DYNAMIC_CONFIG = {
  'matching.enableFairness': 'true',
  'matching.numTaskqueueReadPartitions': '1',
  'matching.numTaskqueueWritePartitions': '1',
};

export interface TemporalPlanOptions {
  binary: string;
  ports: StackPorts;
  /** null = in memory. */
  databaseFile: string | null;
}

export function planTemporal({ binary, ports, databaseFile }: TemporalPlanOptions): PartPlan {
  return {
    name: 'temporal',
    command: binary,
    args: [
      ...['server', 'start-dev', '--ip', '127.0.0.1', '--log-level', 'warn', '--ui-disable-news-fetch'],
      ...['--port', String(ports.temporal), '--ui-port', String(ports.webUi)],
      ...['--http-port', String(ports.temporal + 1), '--metrics-port', String(ports.temporal + 2)],
      ...(databaseFile === null ? [] : ['--db-filename', databaseFile]),
      ...Object.values(SEARCH_ATTRIBUTES).flatMap((name) => ['--search-attribute', `${name}=Keyword`]),
      ...Object.entries(DYNAMIC_CONFIG).flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${value}`]),
    ],
    environment: {},
    prepare: () => {
      if (databaseFile !== null) mkdirSync(dirname(databaseFile), { recursive: true });
    },
    ...(databaseFile !== null && {
      remedy: `where its database is damaged or of another version, move ${dirname(databaseFile)} away (it holds the runs' histories; models stay)`,
    }),
    stopGraceMs: 5_000,
    readyTimeoutMs: 60_000,
    isReady: async () => (await answersForNamespace(ports.webUi)) && (await keepEndedRuns(ports.temporal + 1)),
  };
}

async function keepEndedRuns(httpPort: number): Promise<boolean> {
  const config = { workflowExecutionRetentionTtl: `${RETENTION_S}s` };
  return await answersOk(`http://127.0.0.1:${httpPort}/api/v1/namespaces/default/update`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ config }),
  });
}

/** An open port is not enough: it opens before the namespace exists. */
export async function answersForNamespace(webUiPort: number): Promise<boolean> {
  return await answersOk(`http://127.0.0.1:${webUiPort}/api/v1/namespaces/default`);
}

async function answersOk(url: string, request: RequestInit = {}): Promise<boolean> {
  try {
    const response = await fetch(url, { ...request, signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}
