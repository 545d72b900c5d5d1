// The connection to Temporal behind every way in (CLI, CI, programs). Every call has a deadline.
import { Client, Connection } from '@temporalio/client';
import { type Environment, webUiLink } from '../contracts/environment.ts';
import { toClientError } from './errors.ts';
import { createPauses, type Pauses } from './pauses.ts';
import { createPool, type Pool } from './pool.ts';
import { createRuns, type Runs } from './runs.ts';
import { createSchedules, type Schedules } from './schedules.ts';
import { createSweeps, type Sweeps } from './sweeps.ts';

/** How long a call may take, ms: 20 times the slowest that was measured on a loaded two-core machine. */
const CALL_MS_MAX = 10_000;
/** How long the first contact may take, ms. */
const CONNECT_MS_MAX = 5_000;

export interface Caller {
  client: Client;
  /** Runs one call under a deadline. @throws ClientError or AnnealError. */
  call<T>(fn: () => Promise<T>, limitMs?: number): Promise<T>;
}

export interface AnnealClient extends Runs, Pauses, Sweeps {
  schedules: Schedules;
  pool: Pool;
  /** Page of the run in Temporal's Web UI. */
  linkTo(run: string): string;
  close(): Promise<void>;
}

type Settings = Pick<Environment, 'ANNEAL_TEMPORAL_ADDRESS' | 'ANNEAL_TEMPORAL_NAMESPACE' | 'ANNEAL_WEB_UI'>;

/** @throws ClientError `temporal_unavailable` when nothing answers within five seconds. */
export async function connect(settings: Settings): Promise<AnnealClient> {
  const { ANNEAL_TEMPORAL_ADDRESS: address, ANNEAL_TEMPORAL_NAMESPACE: namespace } = settings;
  const connection = await Connection.connect({ address, connectTimeout: CONNECT_MS_MAX }).catch((error: unknown) => {
    throw toClientError(error, address);
  });
  const caller: Caller = {
    client: new Client({ connection, namespace }),
    call: async (fn, limitMs = CALL_MS_MAX) => {
      try {
        return await connection.withDeadline(Date.now() + limitMs, fn);
      } catch (error) {
        throw toClientError(error, address);
      }
    },
  };
  return {
    ...createRuns(caller),
    ...createPauses(caller),
    ...createSweeps(caller),
    schedules: createSchedules(caller),
    pool: createPool(caller),
    linkTo: (run) => webUiLink(settings, run),
    close: () => connection.close(),
  };
}
