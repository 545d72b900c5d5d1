// The hosts of the GPU pool, as activities ask for them.
import { getClient } from '@temporalio/activity';
import { POOL } from '../contracts/names.ts';
import type { PoolHost, PoolState } from '../contracts/pool.ts';

/** The pool answers at once, or its worker is away, ms. */
const QUERY_MS_MAX = 2_000;

/** None where the pool does not answer: a run does not wait for it. */
export async function findHosts(): Promise<PoolHost[]> {
  try {
    const client = getClient();
    const pool = client.workflow.getHandle(POOL.id);
    const state = await client.withDeadline(Date.now() + QUERY_MS_MAX, () => pool.query<PoolState>(POOL.state));
    return state.hosts;
  } catch {
    return [];
  }
}
