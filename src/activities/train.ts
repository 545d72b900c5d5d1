// Stage `train`: one attempt to train, under a confirmed lease and the host's GPU lock.
import { Context } from '@temporalio/activity';
import { AnnealError } from '../contracts/failure.ts';
import { DatasetSchema, type Training, TrainingSchema } from '../contracts/records.ts';
import type { TrainInput, TrainResultSummary } from '../contracts/stages.ts';
import type { Progress } from '../contracts/status.ts';
import { keys } from '../storage/keys.ts';
import { openBaseModel } from '../trainer/base-model.ts';
import { withGpuLock } from '../trainer/gpu-lock.ts';
import { endLeftoverTrainer } from '../trainer/leftovers.ts';
import { train } from '../trainer/training.ts';
import { holdLease, type Lease } from './lease.ts';
import type { Parts } from './parts.ts';
import { readRecord, rememberStage, runStage, type StageContext } from './stage.ts';

export function createTrainActivities(parts: Parts) {
  return {
    async train(input: TrainInput): Promise<TrainResultSummary> {
      return await runStage('train', async (context) => {
        const lease = holdLease(context.progress, Context.current().info.heartbeatTimeoutMs ?? 30_000);
        try {
          return await trainUnderLease(parts, input, context, lease);
        } catch (error) {
          const lost = lease.lost();
          if (lost !== null) throw new AnnealError('preempted', `Training was handed over: ${lost}.`, { cause: error });
          throw error;
        } finally {
          lease.stop();
        }
      });
    },
  };
}

async function trainUnderLease(
  parts: Parts,
  input: TrainInput,
  context: StageContext,
  lease: Lease,
): Promise<TrainResultSummary> {
  const { run, spec } = input;
  const dataset = await readRecord(parts.store, keys.dataset(input.dataset), DatasetSchema);
  const base = await openBaseModel(spec.model.base, parts.models);
  const signal = AbortSignal.any([context.signal, lease.signal]);
  const remembered = {
    run,
    stage: 'train',
    input: { dataset: dataset.digest, base: base.digest, recipe: spec.train },
    schema: TrainingSchema,
  } as const;
  const { key, value } = await rememberStage(parts.store, remembered, () =>
    withGpuLock(parts.state, signal, async () => {
      await endLeftoverTrainer(parts.state);
      await lease.confirm();
      const { info } = Context.current();
      return await train({
        store: parts.store,
        python: parts.python,
        state: parts.state,
        claimant: {
          run,
          workflowRunId: info.workflowExecution?.runId ?? '',
          attemptScheduledMs: info.currentAttemptScheduledTimestampMs,
          host: parts.host,
        },
        base,
        dataset: dataset.files,
        recipe: spec.train,
        stepBefore: (info.heartbeatDetails as Progress | undefined)?.step ?? null,
        signal,
        onProgress: (meter, committer, claim) => {
          const committed = committer.committedStep();
          const waiting = committer.waitingFor();
          context.report({
            ...meter.progress(),
            ...(committed === null ? {} : { checkpoint: `step ${committed} (claim ${claim})` }),
            ...(waiting === null ? {} : { waitingFor: waiting }),
            claim,
          });
        },
      });
    }),
  );
  return summarise(key, value);
}

function summarise(record: string, training: Training): TrainResultSummary {
  const { result, receipts } = training;
  const share = (100 * result.trainableParameters) / result.totalParameters;
  const recovered =
    receipts.length === 0 ? '' : `, ${receipts.length} ${receipts.length === 1 ? 'recovery' : 'recoveries'}`;
  return {
    record,
    step: result.step,
    loss: result.trainLoss,
    trainableParameters: result.trainableParameters,
    totalParameters: result.totalParameters,
    recoveries: receipts.length,
    weightsSha256: result.weightsSha256,
    outcome: `${result.step} steps, loss ${result.trainLoss.toFixed(3)}, ${share.toFixed(2)} % of the parameters${recovered}`,
  };
}
