// Retraining: what a schedule starts. Runs the pipeline on the sources' present content, and skips when nothing has changed.
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import {
  CancellationScope,
  executeChild,
  patched,
  proxyActivities,
  setCurrentDetails,
  workflowInfo,
} from '@temporalio/workflow';
import type * as activities from '../activities/types.ts';
import { WORKFLOWS } from '../contracts/names.ts';
import type { Spec, SpecInput } from '../contracts/spec.ts';
import type { RetrainingResult } from '../contracts/status.ts';
import type { FineTune } from './fine-tune.ts';
import { STAGE_OPTIONS } from './stage-options.ts';

const { checkSpec } = proxyActivities<activities.Check>(STAGE_OPTIONS.check);
const { ingest } = proxyActivities<activities.Data>(STAGE_OPTIONS.data);
const { planRetraining, giveBack } = proxyActivities<activities.Control>(STAGE_OPTIONS.control);

export interface RetrainingInput {
  spec?: SpecInput;
}

export async function Retraining({ spec: input }: RetrainingInput = {}): Promise<RetrainingResult> {
  const spec = await checkSpec.executeWithOptions({ activityId: 'check-spec', summary: 'the spec' }, [{ input }]);
  const { snapshot, contents, suites, sizeBytes } = await ingest.executeWithOptions(
    { activityId: 'ingest', summary: 'the present content' },
    [{ run: workflowInfo().workflowId, spec }],
  );
  const { run, skip } = await planRetraining.executeWithOptions({ activityId: 'plan', summary: 'anything new?' }, [
    { spec, snapshot, contents, suites, sizeBytes },
  ]);
  // The Web UI fills in the namespace.
  setCurrentDetails(skip ?? `Trained by run [${run}](/namespaces/{namespace}/workflows/${run}).`);
  if (skip !== null) return { run, skipped: skip, status: null };
  try {
    const status = await executeChild<typeof FineTune>(WORKFLOWS.fineTune, {
      workflowId: run,
      workflowIdReusePolicy: 'ALLOW_DUPLICATE_FAILED_ONLY',
      args: [spec],
    });
    return { run, skipped: null, status };
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError)
      return { run, skipped: `Run ${run}, which does the same, is under way or complete.`, status: null };
    await giveBackTaken(spec);
    throw error;
  }
}

/** Rows of a run that has failed would else never be trained: the next retraining takes them with what is newer. */
async function giveBackTaken(spec: Spec): Promise<void> {
  if (!spec.data.sources.some(({ follow }) => follow) || !patched('give-back')) return;
  const options = { activityId: 'give-back', summary: 'what it took of followed sources' };
  await CancellationScope.nonCancellable(() =>
    giveBack.executeWithOptions(options, [{ run: workflowInfo().workflowId, spec }]),
  );
}
