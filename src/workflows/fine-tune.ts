// FineTune: raw data to a served model, in six stages.
import { ApplicationFailure, proxyActivities, workflowInfo } from '@temporalio/workflow';
import type * as activities from '../activities/types.ts';
import type { GangSize } from '../contracts/gang-size.ts';
import type { SpecInput } from '../contracts/spec.ts';
import type { EvaluateResult } from '../contracts/stages.ts';
import type { RunStatus, Trial } from '../contracts/status.ts';
import { openPausing } from './pausing.ts';
import { prepareDataset } from './preparation.ts';
import { openRunPage } from './run-page.ts';
import { STAGE_OPTIONS } from './stage-options.ts';
import { trainOnHosts } from './training-gang.ts';

const { checkSpec } = proxyActivities<activities.Check>(STAGE_OPTIONS.check);
const { ingest } = proxyActivities<activities.Data>(STAGE_OPTIONS.data);
const { train, evaluate } = proxyActivities<activities.Gpu>(STAGE_OPTIONS.gpu);
const { register, deploy } = proxyActivities<activities.Control>(STAGE_OPTIONS.control);

/**
 * `{}`, or nothing at all, is the demo. Started again under the same id it goes on where it ended: finished stages are remembered.
 * Its training can be paused (`pausing.ts`); a sweep starts it as a trial. `size` = hosts and ranks in place of the spec's.
 */
export async function FineTune(input?: SpecInput, trial?: Trial | null, size?: Partial<GangSize>): Promise<RunStatus> {
  const run = workflowInfo().workflowId;
  const page = openRunPage(run);
  const pausing = openPausing(page, trial ?? undefined, size);
  return await page.keep(async () => {
    const spec = await checkSpec.executeWithOptions({ activityId: 'check-spec', summary: 'the spec' }, [{ input }]);
    page.begin(spec);

    const { snapshot, suites } = await page.stage('ingest', (options) =>
      ingest.executeWithOptions(options, [{ run, spec }]),
    );
    if (spec.until === 'ingest') return;

    const { dataset } = await page.stage('preprocess', (options) =>
      prepareDataset({ run, spec, snapshot, suites }, options, (text) => page.progress('preprocess', text)),
    );
    if (spec.until === 'preprocess') return;

    const { record: training } = await page.stage('train', (options) =>
      pausing.train({ spec, dataset }, (terms) => {
        const input = { run, spec, dataset, ...terms };
        const { hosts } = terms.size ?? spec.train;
        return hosts > 1 ? trainOnHosts(input, options.summary) : train.executeWithOptions(options, [input]);
      }),
    );
    if (spec.until === 'train') return;

    const evaluated = await page.stage('evaluate', (options) =>
      evaluate.executeWithOptions(options, [{ run, spec, dataset, training }]),
    );
    requirePass(evaluated);
    if (spec.until === 'evaluate') return;

    const evaluation = evaluated.record;
    const { model, version } = await page.stage('register', (options) =>
      register.executeWithOptions(options, [{ run, spec, dataset, training, evaluation }]),
    );
    if (spec.until === 'register') return;

    await page.stage('deploy', (options) => deploy.executeWithOptions(options, [{ run, spec, model, version }]));
  });
}

/** Only `pass` goes on; a missing or inconclusive result is never a pass. */
function requirePass({ evaluation }: EvaluateResult): void {
  const { verdict, reason } = evaluation.gate;
  if (verdict !== 'pass') {
    throw ApplicationFailure.nonRetryable(
      `The gate says ${verdict}, so nothing was registered. ${reason}`,
      'gate_failed',
    );
  }
}
