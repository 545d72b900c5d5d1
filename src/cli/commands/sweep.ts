// `anneal sweep`: starts a sweep or attaches to the one that does the same, and follows it.
import type { AnnealClient } from '../../client/connect.ts';
import type { SweepDescription } from '../../client/sweeps.ts';
import { parseSweep, trialRun } from '../../contracts/sweep.ts';
import { digestOf } from '../../storage/digest.ts';
import { type ConfirmOptions, confirmSweep, isStartedAnew } from '../confirm.ts';
import { EXIT, exitCodeOf } from '../failures.ts';
import { createOutput, type Output } from '../output.ts';
import { fixParentOf } from '../parent.ts';
import { withClient } from '../session.ts';
import { loadSweep } from '../sweep-file.ts';
import { createLiveBlock } from '../terminal.ts';
import { sweepLines } from '../views/sweep.ts';
import { identifyRun } from './run.ts';

/** Hex digits of a sweep's id, as of a run's. */
const DIGITS = 12;

interface SweepOptions extends ConfirmOptions {
  wait?: boolean;
  keepWaiting?: boolean;
}

export async function sweep(file: string, options: SweepOptions): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const input = loadSweep(file, process.cwd());
  const { spec, trials, rungs, keep } = parseSweep(input);
  return withClient(async (client, environment) => {
    // The first trial's id holds the data and the code.
    const { runId, parent } = await identifyRun(spec, environment, output);
    const identity = { first: runId, trials, rungs, keep };
    const sweepId = `${input.name}-sweep-${digestOf(identity).slice(0, DIGITS)}`;
    const isPlanned = options.plan !== false && (await isStartedAnew(client, sweepId));
    if (isPlanned && !(await confirmSweep(input, options, output))) {
      output.say('Nothing was started.');
      return EXIT.failed;
    }
    const runs = trials.map((_, i) => trialRun(sweepId, i));
    await fixParentOf(runs, spec, parent, environment);
    const outcome = await client.startSweep(input, { sweepId });
    output.say(`Sweep ${sweepId} of ${trials.length} trials ${outcome}: ${client.linkTo(sweepId)}`);
    if (options.wait) return await followSweep(client, sweepId, output, { keepWaiting: options.keepWaiting ?? false });
    if (options.json) output.result({ sweep: sweepId, outcome, webUi: client.linkTo(sweepId) });
    else output.say(`Follow it with \`anneal watch ${sweepId}\`.`);
    return EXIT.done;
  });
}

export async function showSweep(client: AnnealClient, id: string, output: Output): Promise<number> {
  const description = await client.describeSweep(id);
  if (output.json) output.result(description);
  else for (const line of sweepLines(description, output.width(), output.paint)) output.say(line);
  return EXIT.done;
}

/**
 * A sweep all of whose trials wait for a budget counts as ended.
 * @param ndjson each change as one JSON object; otherwise with `--json` the end as one
 * @param keepWaiting for somebody to give them more
 */
export async function followSweep(
  client: AnnealClient,
  id: string,
  output: Output,
  options: { ndjson?: boolean; keepWaiting?: boolean },
): Promise<number> {
  const interrupt = new AbortController();
  const onInterrupt = () => interrupt.abort();
  process.once('SIGINT', onInterrupt);
  const show = createViewer(output, options.ndjson ?? false);
  try {
    for await (const description of client.watchSweep(id, { signal: interrupt.signal })) {
      show(description);
      const isEnd = description.closedAt !== null || (isOutOfBudget(description) && !options.keepWaiting);
      if (isEnd) return reportEnd(description, output, options.ndjson ?? false);
    }
    return EXIT.failed;
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    output.say(`Sweep ${id} goes on; come back with \`anneal watch ${id}\`.`);
    return EXIT.interrupted;
  } finally {
    process.off('SIGINT', onInterrupt);
  }
}

/** Nobody goes on by himself: the sweep's budget, or those of all that are still in, are used up. */
function isOutOfBudget({ status }: SweepDescription): boolean {
  if (status?.asks) return true;
  const open = (status?.trials ?? []).filter(({ state }) => ['waiting', 'training', 'paused', 'held'].includes(state));
  return open.length > 0 && open.every(({ state, isOutOfBudget }) => state === 'held' && isOutOfBudget);
}

function createViewer(output: Output, ndjson: boolean): (description: SweepDescription) => void {
  const block = output.isTerminal && !ndjson ? createLiveBlock(output.stream) : null;
  let last = '';
  return (description) => {
    const text = JSON.stringify(description.status);
    if (block !== null) block.draw(sweepLines(description, output.width(), output.paint));
    else if (text !== last && ndjson) output.result({ t: new Date().toISOString(), ...description });
    else if (text !== last) for (const line of sweepLines(description, output.width(), output.paint)) output.say(line);
    last = text;
  };
}

function reportEnd({ sweep: id, state, status, failure }: SweepDescription, output: Output, ndjson: boolean): number {
  if (output.json && !ndjson) {
    output.result({
      sweep: id,
      status: state,
      winner: status?.winner ?? null,
      trials: status?.trials ?? [],
      failure,
      ...(status?.asks && { asks: status.asks }),
    });
  }
  if (state === 'running') {
    output.say(
      status?.asks ??
        `Sweep ${id} waits for budgets: \`anneal budget <run>\` gives one of its trials more and lets it go on.`,
    );
    return EXIT.budgetReached;
  }
  return state === 'completed' ? EXIT.done : exitCodeOf(failure?.kind === 'gate_failed' ? 'gate_failed' : 'failed');
}
