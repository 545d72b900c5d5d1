// `anneal drill`: kills parts of a stack of its own by SIGKILL in the middle of a training, and checks that the weights come
// out bit for bit as without it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from '../../client/connect.ts';
import { readEnvironment } from '../../contracts/environment.ts';
import { DEFAULT_PORTS, FREE_PORTS } from '../../dev/ports.ts';
import { startStack } from '../../dev/stack.ts';
import { PROJECT_FOLDER } from '../../telemetry/code-identity.ts';
import { type Drill, KILL_NAMES, type Kill, type KillKind, killOnce } from '../drill/kill.ts';
import { chooseMoments, type Moment } from '../drill/moments.ts';
import { DRILL_STEPS, drillSpec, writeDrillRows } from '../drill/rows.ts';
import { CliError, EXIT, stackFailure } from '../failures.ts';
import { createOutput, type Output } from '../output.ts';
import { workerEnvironment } from '../settings.ts';
import { type DrillReport, drillLines } from '../views/drill.ts';
import { formatMs } from '../views/format.ts';

export interface DrillOptions {
  kill: KillKind[];
  times: number;
  seed: number;
  base: string;
  json?: boolean;
}

export async function drill(options: DrillOptions): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort(new CliError('interrupted', 'The drill was interrupted.', EXIT.interrupted));
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const state = mkdtempSync(join(tmpdir(), 'anneal-drill-'));
  try {
    const reports = await withDrill(options, state, output, interrupt.signal, (prepared) =>
      runDrill(prepared, options),
    );
    rmSync(state, { recursive: true, force: true });
    return reports.every(({ equal }) => equal) ? EXIT.done : EXIT.failed;
  } catch (error) {
    if (!interrupt.signal.aborted) {
      output.say(`The drill's state and logs stay in ${state}.`);
      throw error;
    }
    rmSync(state, { recursive: true, force: true });
    throw interrupt.signal.reason;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

/** Lends a stack of its own to drill on. */
export async function withDrill<T>(
  options: Pick<DrillOptions, 'base'>,
  state: string,
  output: Output,
  signal: AbortSignal,
  fn: (drill: Drill) => Promise<T>,
): Promise<T> {
  output.say(`Starting a stack of its own in ${state}.`);
  const stack = await startStack({
    project: PROJECT_FOLDER,
    state,
    // The gateway takes no part, so its port is never opened.
    ports: { ...FREE_PORTS, gateway: DEFAULT_PORTS.gateway },
    parts: ['temporal', 'store', 'control', 'data', 'gpu'],
    environment: workerEnvironment(),
    restart: true,
    onLine: (line) => output.say(`  ${line}`),
    signal,
  }).catch(stackFailure);
  try {
    const client = await connect(readEnvironment(stack.environment));
    try {
      return await fn({ stack, client, state, spec: drillSpec(writeDrillRows(state), options.base), output, signal });
    } finally {
      await client.close();
    }
  } finally {
    await stack.stop();
  }
}

async function runDrill(drill: Drill, options: DrillOptions): Promise<DrillReport[]> {
  drill.output.say(`Training ${DRILL_STEPS} steps of ${options.base} undisturbed.`);
  await drill.client.startRun(drill.spec, { runId: 'drill-undisturbed' });
  const undisturbed = await weightsOf(drill, 'drill-undisturbed');
  drill.output.say(`  weights ${undisturbed}`);
  const reports: DrillReport[] = [];
  for (const [i, part] of options.kill.entries()) {
    const moments = chooseMoments(options.times, DRILL_STEPS, options.seed + i);
    const report = await disturb(drill, part, moments, undisturbed);
    reports.push(report);
    if (drill.output.json) drill.output.result(report);
    else for (const line of drillLines(report, drill.output.paint)) drill.output.say(line);
  }
  return reports;
}

async function disturb(drill: Drill, part: KillKind, moments: Moment[], undisturbed: string): Promise<DrillReport> {
  const run = `drill-${part}`;
  drill.output.say(
    `Training again; ${KILL_NAMES[part]} is killed ${moments.length === 1 ? 'once' : `${moments.length} times`}.`,
  );
  await drill.client.startRun(drill.spec, { runId: run });
  const ended = weightsOf(drill, run);
  const kills = await killAll(drill, part, run, moments, ended);
  const sha256 = await ended;
  const equal = sha256 === undisturbed;
  return { part, undisturbed, kills: kills.map((kill) => ({ ...kill, sha256, equal })), equal };
}

/** Ends with the run's own failure when the run fails before all kills are done. */
async function killAll(
  drill: Drill,
  part: KillKind,
  run: string,
  moments: Moment[],
  ended: Promise<string>,
): Promise<Kill[]> {
  const failure = new AbortController();
  ended.catch((error: unknown) => failure.abort(error));
  const watched = { ...drill, signal: AbortSignal.any([drill.signal, failure.signal]) };
  const kills: Kill[] = [];
  try {
    for (const moment of moments) {
      const kill = await killOnce(watched, part, run, moment, kills.at(-1)?.atStep ?? 0);
      kills.push(kill);
      drill.output.say(`  killed at step ${kill.atStep}, next new step after ${formatMs(kill.nextNewStepMs)}`);
    }
    return kills;
  } catch (error) {
    throw failure.signal.aborted ? failure.signal.reason : error;
  }
}

/** Of the run's end. @throws CliError when it failed. */
export async function weightsOf(drill: Drill, run: string): Promise<string> {
  const { state, status } = await drill.client.waitForRun(run, { signal: drill.signal });
  if (status.training) return status.training.weightsSha256;
  throw new CliError(
    status.failure?.kind ?? 'unexpected',
    `Run ${run} ended ${state}: ${status.failure?.message ?? 'no reason given'}`,
  );
}
