// The real workflows on a real Temporal server, with activities that only pretend: the spec's name says how they behave.
import { fileURLToPath } from 'node:url';
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker, type WorkflowBundle } from '@temporalio/worker';
import { checkSpec, checkSweep } from '../../src/activities/check-spec.ts';
import { SEARCH_ATTRIBUTES, TASK_QUEUES } from '../../src/contracts/names.ts';
import type { RangeInput, StageInput } from '../../src/contracts/stages.ts';
import { ACCOUNTS, EVALUATION } from './pretend-results.ts';

Runtime.install({ logger: new DefaultLogger('ERROR') });

const TEMPORAL = fileURLToPath(new URL('../../.anneal/venv/bin/temporal', import.meta.url));
const WORKFLOWS = fileURLToPath(new URL('../../src/workflows/index.ts', import.meta.url));

const attributes = Object.values(SEARCH_ATTRIBUTES).flatMap((name) => ['--search-attribute', `${name}=Keyword`]);

/** @param settings of the server's dynamic configuration, beyond one partition a queue, without which priorities hold only by chance. */
export async function startServer(settings: string[] = []): Promise<TestWorkflowEnvironment> {
  const all = [...settings, 'matching.numTaskqueueReadPartitions=1', 'matching.numTaskqueueWritePartitions=1'];
  return TestWorkflowEnvironment.createLocal({
    server: {
      executable: { type: 'existing-path', path: TEMPORAL },
      extraArgs: [...attributes, ...all.flatMap((setting) => ['--dynamic-config-value', setting])],
      log: { format: 'pretty', level: 'error' },
    },
  });
}

export function bundle(): Promise<WorkflowBundle> {
  return bundleWorkflowCode({ workflowsPath: WORKFLOWS, logger: new DefaultLogger('ERROR') });
}

/** Runs whose training waits until it is let go. */
export interface Gatekeeper {
  held: Set<string>;
  /** Times that the training of a run was begun. */
  begun: Map<string, number>;
  /** Retrainings that have given back what they took. */
  givenBack?: string[];
}

export interface PretendWorkers {
  stop(): Promise<void>;
}

export async function startWorkers(
  env: TestWorkflowEnvironment,
  workflowBundle: WorkflowBundle,
  gate: Gatekeeper,
): Promise<PretendWorkers> {
  const activities = { checkSpec, checkSweep, ...pretendActivities(gate) };
  const workers = await Promise.all(
    Object.values(TASK_QUEUES).map((taskQueue) =>
      Worker.create({
        connection: env.nativeConnection,
        taskQueue,
        activities,
        maxHeartbeatThrottleInterval: '100ms',
        ...(taskQueue === TASK_QUEUES.control && { workflowBundle }),
      }),
    ),
  );
  const ended = Promise.all(workers.map((worker) => worker.run()));
  return {
    async stop() {
      for (const worker of workers) worker.shutdown();
      await ended;
    },
  };
}

function pretendActivities(gate: Gatekeeper) {
  return {
    ingest: async () => ({ snapshot: 'a'.repeat(64), contents: [], sizeBytes: 100, outcome: '10 rows from 1 source' }),
    planRanges: async () => ({ preparation: 'p', ranges: 2, done: null, outcome: '2 ranges' }),
    cleanRange: async ({ range }: RangeInput) => ({ cleaned: `c${range}`, outcome: '5 rows in' }),
    resolveRows: async () => ({ resolution: 'r', outcome: 'the gates let it pass' }),
    tokeniseRange: async ({ range }: RangeInput) => ({ tokenised: `t${range}`, outcome: '250 tokens' }),
    finishDataset: async () => ({
      ...{ dataset: 'd'.repeat(64), accounts: ACCOUNTS, trainTokens: 500, outcome: '7 rows kept' },
    }),
    train: ({ run, spec }: StageInput) => pretendTraining(run, spec.name, gate),
    evaluate: async ({ spec }: StageInput) => {
      const verdict = spec.name === 'refused' ? 'fail' : 'pass';
      return { record: 'e', evaluation: { ...EVALUATION, gate: { ...EVALUATION.gate, verdict } }, outcome: verdict };
    },
    register: async ({ spec }: StageInput) => ({ model: spec.name, version: 1, digest: 'f'.repeat(64), outcome: 'v1' }),
    deploy: async ({ spec }: StageInput) => ({ endpoint: spec.name, url: 'http://127.0.0.1:9', outcome: spec.name }),
    giveBack: async ({ run }: StageInput) => void gate.givenBack?.push(run),
    planRetraining: async ({ spec }: { spec: { name: string } }) => ({
      run: spec.name,
      skip: spec.name === 'nightly' ? 'Nothing is new.' : null,
    }),
  };
}

async function pretendTraining(run: string, name: string, gate: Gatekeeper) {
  gate.begun.set(run, (gate.begun.get(run) ?? 0) + 1);
  if (name === 'broken')
    throw ApplicationFailure.nonRetryable('The loss is NaN at step 3; lower the learning rate.', 'loss_not_finite');
  while (gate.held.has(run)) {
    Context.current().heartbeat({
      stage: 'train',
      phase: 'train',
      step: 3,
      of: 10,
      loss: 0.5,
      checkpoint: 'step 2 (claim 1)',
      claim: 1,
    });
    await Context.current().sleep(50);
  }
  return {
    record: 't',
    step: 10,
    loss: 0.25,
    evalLoss: 0.5,
    trainableParameters: 10,
    totalParameters: 1000,
    recoveries: 0,
    weightsSha256: 'b'.repeat(64),
    goodput: { share: 0.9, lostSeconds: { load: 2, wait: 0.1 } },
    outcome: '10 steps',
  };
}
