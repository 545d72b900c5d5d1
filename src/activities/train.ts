// Stage `train`: one attempt to train, under a confirmed lease and the host's GPU lock.
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { DatasetSchema, type Training, TrainingSchema } from '../contracts/records.ts';
import type { TrainInput, TrainResultSummary } from '../contracts/stages.ts';
import type { Progress } from '../contracts/status.ts';
import { keys } from '../storage/keys.ts';
import { openBaseModel } from '../trainer/base-model.ts';
import { shareOf } from '../trainer/goodput.ts';
import { withGpuLock } from '../trainer/gpu-lock.ts';
import { endLeftoverTrainer } from '../trainer/leftovers.ts';
import { StopRequest } from '../trainer/stop-request.ts';
import { train } from '../trainer/training.ts';
import { holdLease, type Lease } from './lease.ts';
import type { GpuParts } from './parts.ts';
import { readRecord, rememberStage, runStage, type StageContext } from './stage.ts';

/** The lease learns of a cancel, a pause or a reset before the SDK does; its word must be waited for, because it is what the server hears, ms. */
const SDK_WORD_MS = 5_000;

export function createTrainActivities(parts: GpuParts) {
  return {
    async train(input: TrainInput): Promise<TrainResultSummary> {
      return await runStage('train', async (context) => {
        const { info, cancelled } = Context.current();
        const lease = holdLease(context.progress, info.heartbeatTimeoutMs ?? 30_000);
        try {
          return await trainUnderLease(parts, input, context, lease);
        } catch (error) {
          if (!lease.signal.aborted) throw error;
          if (!(lease.signal.reason instanceof StopRequest)) {
            await Promise.race([cancelled.catch(() => undefined), sleep(SDK_WORD_MS, undefined, { ref: false })]);
          }
          throw lease.signal.reason;
        } finally {
          lease.stop();
        }
      });
    },
  };
}

async function trainUnderLease(
  parts: GpuParts,
  input: TrainInput,
  context: StageContext,
  { signal, confirm }: Lease,
): Promise<TrainResultSummary> {
  const { run, spec } = input;
  const dataset = await readRecord(parts.store, keys.dataset(input.dataset), DatasetSchema);
  const base = await openBaseModel(spec.model.base, parts.models);
  const remembered = {
    run,
    stage: 'train',
    input: { dataset: dataset.digest, base: base.digest, recipe: spec.train },
    schema: TrainingSchema,
  } as const;
  const { key, value } = await rememberStage(parts.store, remembered, () =>
    withGpuLock(parts.state, signal, async () => {
      await endLeftoverTrainer(parts.state);
      await confirm();
      const { info } = Context.current();
      return await train({
        ...parts,
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
        onProgress: context.report,
      });
    }),
  );
  return summarise(key, value);
}

function summarise(record: string, training: Training): TrainResultSummary {
  const { result, receipts, findings, changes, goodput } = training;
  const share = (100 * result.trainableParameters) / result.totalParameters;
  const alarms = findings.filter(({ code }) => code === 'not_deterministic').length;
  const change = changes.at(-1);
  const facts = [
    `${result.step} steps`,
    `loss ${result.trainLoss.toFixed(3)}`,
    `${share.toFixed(2)} % of the parameters`,
    ...(receipts.length === 0 ? [] : [`${receipts.length} ${receipts.length === 1 ? 'recovery' : 'recoveries'}`]),
    `goodput ${Math.round(100 * shareOf(goodput))} %`,
    ...(change === undefined ? [] : [`micro-batch ${change.microBatch} from step ${change.atStep} on, not bit-exact`]),
    ...(alarms === 0 ? [] : [`${alarms} steps came out differently when done again`]),
  ];
  return {
    record,
    step: result.step,
    loss: result.trainLoss,
    trainableParameters: result.trainableParameters,
    totalParameters: result.totalParameters,
    recoveries: receipts.length,
    weightsSha256: result.weightsSha256,
    goodput: { share: shareOf(goodput), lostSeconds: goodput.lostSeconds },
    outcome: facts.join(', '),
  };
}
