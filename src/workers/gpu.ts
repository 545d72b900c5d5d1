// The GPU worker: supervises trainers and evaluations, one at a time for its GPU set. Keeps a warm parent from its start on, so that the
// first training is forked too, and frees what a dead worker left behind: its trainer and old warm state.
import { join } from 'node:path';
import { createEvaluateActivities } from '../activities/evaluate.ts';
import { createTrainActivities } from '../activities/train.ts';
import { TASK_QUEUES } from '../contracts/names.ts';
import { lastSignOf } from '../trainer/event-log.ts';
import { endLeftoverTrainer } from '../trainer/leftovers.ts';
import { createWarmParent } from '../trainer/warm-parent.ts';
import { openWarmRoot, sweepWarmStates } from '../trainer/warm-state.ts';
import { orExit } from './process.ts';
import { startWorker } from './start.ts';

/** Linux's shared memory; elsewhere there is none, and training does without warm state. */
const SHARED_MEMORY = process.platform === 'linux' ? '/dev/shm' : null;

orExit(
  startWorker('gpu', async ({ parts, log }) => {
    const leftover = await endLeftoverTrainer(parts.state);
    if (leftover !== null) log.warn('ended a trainer that a dead worker had left behind', { ...leftover });
    const warmRoot = await openWarmRoot(SHARED_MEMORY, parts.state);
    if (warmRoot !== null) {
      const lastSign = (run: string) => lastSignOf(join(parts.state, 'gpu', 'runs', run));
      const swept = await sweepWarmStates(warmRoot, lastSign, Date.now());
      if (swept.length > 0) log.info('deleted warm state of runs that did not come back', { runs: swept });
    }
    // The fork needs Linux: elsewhere threads of the system's libraries do not survive it.
    const warmParent =
      process.platform === 'linux' ? createWarmParent(parts.python, join(parts.state, 'gpu', 'warm-parent')) : null;
    warmParent?.warmUp();
    const gpuParts = { ...parts, warmParent, sharedMemory: SHARED_MEMORY };
    return {
      taskQueue: TASK_QUEUES.gpu,
      activities: { ...createTrainActivities(gpuParts), ...createEvaluateActivities(gpuParts) },
      maxConcurrentActivityTaskExecutions: 1,
      maxConcurrentActivityTaskPolls: 1,
      // The abort comes at once, so that the grace of the machine goes into the checkpoint.
      shutdownGraceTime: 0,
      shutdownForceTime: '90s',
    };
  }),
);
