// The GPU worker: supervises trainers and evaluations, one at a time for its GPU set. Keeps a warm parent from its start on, so that the
// first training is forked too, and frees what a dead worker left behind: its trainer and old warm state. It polls two queues: the one
// that all share, and its own, on which the GPU pool and the gangs of several hosts reach it.
import { join, resolve } from 'node:path';
import { createEvaluateActivities } from '../activities/evaluate.ts';
import { createMemberActivities } from '../activities/gang-member.ts';
import { createTrainActivities } from '../activities/train.ts';
import type { MemberInput } from '../contracts/gang.ts';
import { hostQueue, TASK_QUEUES } from '../contracts/names.ts';
import type { EvaluateInput, TrainInput } from '../contracts/stages.ts';
import { lastSignOf } from '../trainer/event-log.ts';
import { endLeftoverTrainer } from '../trainer/leftovers.ts';
import { createWarmParent } from '../trainer/warm-parent.ts';
import { openWarmRoot, sweepWarmStates } from '../trainer/warm-state.ts';
import { countSlots, tellMemory } from './host-slots.ts';
import { createPoolMember } from './pool-member.ts';
import { orExit } from './process.ts';
import { startWorker } from './start.ts';

/** Linux's shared memory; elsewhere there is none, and training does without warm state. */
const SHARED_MEMORY = process.platform === 'linux' ? '/dev/shm' : null;

orExit(
  startWorker('gpu', async ({ parts, log, client, environment }) => {
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
    const prices = resolve(environment.ANNEAL_PRICES || join(parts.state, 'prices.yaml'));
    const gpuParts = { ...parts, prices, warmParent, sharedMemory: SHARED_MEMORY };
    const slots = countSlots(environment.ANNEAL_HOST_GPUS);
    const memory = await tellMemory(slots.device, parts.python.environment.CUDA_VISIBLE_DEVICES);
    const about = { name: parts.host, ...slots, labels: environment.ANNEAL_HOST_LABELS, ...(memory && { memory }) };
    const member = createPoolMember(client, about, log);
    const { train } = createTrainActivities(gpuParts);
    const { evaluate } = createEvaluateActivities(gpuParts);
    const { offerState, trainMember } = createMemberActivities(gpuParts, {
      address: environment.ANNEAL_HOST_ADDRESS,
      port: environment.ANNEAL_GANG_PORT,
      isBusy: member.isBusy,
    });
    // The abort comes at once, so that the grace of the machine goes into the checkpoint.
    const shared = { maxConcurrentActivityTaskPolls: 1, shutdownGraceTime: 0, shutdownForceTime: '90s' } as const;
    return [
      {
        ...shared,
        taskQueue: TASK_QUEUES.gpu,
        activities: {
          async train(input: TrainInput) {
            await member.requireUnkept();
            return await member.whileAway(() => train(input));
          },
          evaluate: (input: EvaluateInput) => member.whileAway(() => evaluate(input)),
        },
        maxConcurrentActivityTaskExecutions: 1,
      },
      {
        ...shared,
        taskQueue: hostQueue(parts.host),
        activities: {
          ...member.activities,
          offerState,
          trainMember: (input: MemberInput) => member.whileGranted(() => trainMember(input)),
        },
        // One trains, one stays in the pool, one answers; as many more may still be ending.
        maxConcurrentActivityTaskExecutions: 6,
      },
    ];
  }),
);
