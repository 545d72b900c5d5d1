// The GPU worker: supervises trainers and evaluations, one at a time for its GPU set.
import { createEvaluateActivities } from '../activities/evaluate.ts';
import { createTrainActivities } from '../activities/train.ts';
import { TASK_QUEUES } from '../contracts/names.ts';
import { endLeftoverTrainer } from '../trainer/leftovers.ts';
import { orExit } from './process.ts';
import { startWorker } from './start.ts';

orExit(
  startWorker('gpu', async ({ parts, log }) => {
    const leftover = await endLeftoverTrainer(parts.state);
    if (leftover !== null) log.warn('ended a trainer that a dead worker had left behind', { ...leftover });
    return {
      taskQueue: TASK_QUEUES.gpu,
      activities: { ...createTrainActivities(parts), ...createEvaluateActivities(parts) },
      maxConcurrentActivityTaskExecutions: 1,
      maxConcurrentActivityTaskPolls: 1,
      // The abort comes at once, so that the grace of the machine goes into the checkpoint.
      shutdownGraceTime: 0,
      shutdownForceTime: '90s',
    };
  }),
);
