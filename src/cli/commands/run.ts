// `anneal run`: starts a run or attaches to the one that does the same, and answers with its end when asked to wait.
import type { AnnealClient } from '../../client/connect.ts';
import type { RunDescription } from '../../client/description.ts';
import type { StartOutcome } from '../../client/runs.ts';
import { identifySources } from '../../client/source-contents.ts';
import { inputsOf } from '../../contracts/data-spec.ts';
import type { Environment } from '../../contracts/environment.ts';
import type { Version } from '../../contracts/records.ts';
import type { Spec } from '../../contracts/spec.ts';
import { runIdFor } from '../../storage/run-id.ts';
import { codeIdentity } from '../../telemetry/code-identity.ts';
import { type ConfirmOptions, confirmPlan, isStartedAnew } from '../confirm.ts';
import { EXIT, exitCodeOf } from '../failures.ts';
import { followRun, isOutOfBudget, outOfBudgetLine } from '../follow.ts';
import { createOutput, type Output } from '../output.ts';
import { findParent, fixParentOf } from '../parent.ts';
import { createS3ETagReader, createS3Listing } from '../s3-etag.ts';
import { withClient } from '../session.ts';
import { loadSpec, type SpecOptions } from '../spec-file.ts';
import { summaryLines } from '../views/summary.ts';

export interface RunOptions extends SpecOptions, ConfirmOptions {
  wait?: boolean;
  keepWaiting?: boolean;
}

export async function run(file: string | undefined, options: RunOptions): Promise<number> {
  const output = createOutput(options);
  const spec = loadSpec(file, options, process.cwd());
  return withClient(async (client, environment) => {
    const { runId, parent } = await identifyRun(spec, environment, output);
    const isPlanned = options.plan !== false && (await isStartedAnew(client, runId));
    if (isPlanned && !(await confirmPlan(spec, options, output))) {
      output.say('Nothing was started.');
      return EXIT.failed;
    }
    await fixParentOf([runId], spec, parent, environment);
    const outcome = await client.attachOrStart(spec, { runId });
    output.say(`Run ${runId} ${OUTCOMES[outcome]}: ${client.linkTo(runId)}`);
    if (options.wait) return waitAndReport(client, runId, output, options);
    if (options.json) output.result({ run: runId, outcome, webUi: client.linkTo(runId) });
    else output.say(`Follow it with \`anneal watch ${runId}\`.`);
    return EXIT.done;
  });
}

const OUTCOMES: Record<StartOutcome, string> = {
  started: 'started',
  attached: 'is running already; attached to it',
  finished: 'was completed before; nothing is done again',
};

/** The run's id, and the version that it continues. */
export async function identifyRun(
  spec: Spec,
  environment: Environment,
  output: Output,
): Promise<{ runId: string; parent: Version | null }> {
  const parent = await findParent(spec, environment);
  const contents = await identifySources(inputsOf(spec.data), {
    examples: environment.ANNEAL_EXAMPLES,
    s3ETag: createS3ETagReader(environment),
    s3: await createS3Listing(environment),
  });
  for (const { note } of contents) if (note !== null) output.say(`Note: ${note}`);
  const identities = contents.map(({ identity }) => identity);
  return { runId: runIdFor(spec, identities, codeIdentity().digest, parent?.digest), parent };
}

/** Follows the run, reports its end and gives the exit code. */
export async function waitAndReport(
  client: AnnealClient,
  runId: string,
  output: Output,
  { keepWaiting = false }: Pick<RunOptions, 'keepWaiting'>,
): Promise<number> {
  const end = await followRun(client, runId, output, { keepWaiting });
  if (end === null) return EXIT.interrupted;
  if (output.json) output.result(resultOf(end));
  else if (isOutOfBudget(end)) output.say(outOfBudgetLine(end));
  else for (const line of ['', ...summaryLines(end.status, output.width(), output.paint)]) output.say(line);
  return exitCodeOfRun(end);
}

export function exitCodeOfRun(end: RunDescription): number {
  const { state, status } = end;
  if (isOutOfBudget(end)) return EXIT.budgetReached;
  return state === 'completed'
    ? EXIT.done
    : exitCodeOf(status.failure?.kind === 'gate_failed' ? 'gate_failed' : 'failed');
}

/** The object that programs read at the end of a run. */
export function resultOf({ run, state, status }: RunDescription): Record<string, unknown> {
  const { data, evaluation, version, endpoint, failure, paused } = status;
  return {
    run,
    status: state,
    data: data && { rowsIn: data.rowsIn, kept: data.kept, duplicates: data.duplicates, dropped: data.dropped },
    evaluation,
    version,
    endpoint,
    ...(paused && { paused }),
    ...(failure && { failure }),
  };
}
