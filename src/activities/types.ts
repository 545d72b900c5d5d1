// The activities by task queue, as workflows see them. Types only.
import type { checkSpec } from './check-spec.ts';
import type { createDeployActivities } from './deploy.ts';
import type { createEvaluateActivities } from './evaluate.ts';
import type { createIngestActivities } from './ingest.ts';
import type { createPreprocessActivities } from './preprocess.ts';
import type { createRegisterActivities } from './register.ts';
import type { createTrainActivities } from './train.ts';

export interface Check {
  checkSpec: typeof checkSpec;
}
export type Data = ReturnType<typeof createIngestActivities> & ReturnType<typeof createPreprocessActivities>;
export type Gpu = ReturnType<typeof createTrainActivities> & ReturnType<typeof createEvaluateActivities>;
export type Control = ReturnType<typeof createRegisterActivities> & ReturnType<typeof createDeployActivities>;
