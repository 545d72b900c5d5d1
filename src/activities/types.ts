// The activities by task queue, as workflows see them. Types only.
import type { DecideInput, Decision, PoolHost } from '../contracts/pool.ts';
import type { createSizeActivities } from './check-size.ts';
import type { checkSpec, checkSweep } from './check-spec.ts';
import type { createDeployActivities } from './deploy.ts';
import type { createEvaluateActivities } from './evaluate.ts';
import type { createMemberActivities } from './gang-member.ts';
import type { createIngestActivities } from './ingest.ts';
import type { findEnded, judgeDeaths, tellPool } from './pool.ts';
import type { createPreprocessActivities } from './preprocess.ts';
import type { createRegisterActivities } from './register.ts';
import type { createTrainActivities } from './train.ts';

export interface Check {
  checkSpec: typeof checkSpec;
  checkSweep: typeof checkSweep;
}
export type Data = ReturnType<typeof createIngestActivities> & ReturnType<typeof createPreprocessActivities>;
export type Size = ReturnType<typeof createSizeActivities>;
export type Gpu = ReturnType<typeof createTrainActivities> & ReturnType<typeof createEvaluateActivities>;
export type Control = ReturnType<typeof createRegisterActivities> & ReturnType<typeof createDeployActivities>;
export type Member = ReturnType<typeof createMemberActivities>;
/** Of every GPU worker, on its host's own queue. */
export interface Host {
  stayInPool(host: PoolHost): Promise<void>;
}
export interface Pool {
  tellPool: typeof tellPool;
  decideHosts(input: DecideInput): Promise<Decision>;
  findEnded: typeof findEnded;
  judgeDeaths: typeof judgeDeaths;
}
