// The control worker: workflows and light activities.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { checkSpec, checkSweep } from '../activities/check-spec.ts';
import { createDeployActivities } from '../activities/deploy.ts';
import { findEnded, judgeDeaths, tellPool } from '../activities/pool.ts';
import { createRegisterActivities } from '../activities/register.ts';
import { TASK_QUEUES } from '../contracts/names.ts';
import type { DecideInput } from '../contracts/pool.ts';
import { decideGrants } from '../workflows/policies/grants.ts';
import { orExit } from './process.ts';
import { startWorker } from './start.ts';

const workflows = ['../workflows/index.ts', '../workflows/index.js'].map((path) =>
  fileURLToPath(new URL(path, import.meta.url)),
);

orExit(
  startWorker('control', async ({ parts }) => ({
    taskQueue: TASK_QUEUES.control,
    workflowsPath: workflows.find((path) => existsSync(path)) as string,
    activities: {
      ...{ checkSpec, checkSweep, tellPool, findEnded, judgeDeaths },
      decideHosts: async (input: DecideInput) => decideGrants(input),
      ...createRegisterActivities(parts),
      ...createDeployActivities(parts),
    },
  })),
);
