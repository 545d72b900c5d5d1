// `anneal drill`: kills parts of a stack of its own by SIGKILL in the middle of a training, and checks that the weights come
// out bit for bit as without it.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type AnnealClient, connect } from '../../client/connect.ts';
import { readEnvironment } from '../../contracts/environment.ts';
import { DEFAULT_PORTS, FREE_PORTS } from '../../dev/ports.ts';
import { type PartName, type Stack, startStack } from '../../dev/stack.ts';
import { PROJECT_FOLDER } from '../../telemetry/code-identity.ts';
import { costOfKill, highestStep, type KillCost, readEvents, type TimedEvent } from '../drill/events.ts';
import { chooseMoments, type Moment } from '../drill/moments.ts';
import { DRILL_STEPS, drillSpec, writeDrillRows } from '../drill/rows.ts';
import { CliError, EXIT } from '../failures.ts';
import { createOutput, type Output } from '../output.ts';
import { workerEnvironment } from '../settings.ts';
import { type DrillReport, drillLines } from '../views/drill.ts';
import { formatMs } from '../views/format.ts';
import { stackFailure } from './stack.ts';

export interface DrillOptions {
  kill: KillKind[];
  times: number;
  seed: number;
  base: string;
  json?: boolean;
}

export type KillKind = 'trainer' | 'worker' | 'temporal' | 'store';

const NAMES: Record<KillKind, string> = {
  trainer: 'the trainer',
  worker: 'the GPU worker',
  temporal: 'the Temporal server',
  store: 'the object store',
};

/** Between looks at the trainer's events, ms: the error of the times that are measured. */
const POLL_MS = 20;
/** From a kill to a new step: a heartbeat timeout, loading a model on a busy machine, and room, ms. */
const RECOVERY_MS_MAX = 5 * 60_000;
/** From the start of a run to its first step, ms. */
const FIRST_STEP_MS_MAX = 10 * 60_000;

interface Drill {
  stack: Stack;
  client: AnnealClient;
  state: string;
  spec: ReturnType<typeof drillSpec>;
  output: Output;
  signal: AbortSignal;
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

async function withDrill<T>(
  options: DrillOptions,
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
    `Training again; ${NAMES[part]} is killed ${moments.length === 1 ? 'once' : `${moments.length} times`}.`,
  );
  await drill.client.startRun(drill.spec, { runId: run });
  const costs: (KillCost & { detectedMs: number })[] = [];
  for (const moment of moments) {
    const cost = await killOnce(drill, part, run, moment, costs.at(-1)?.atStep ?? 0);
    costs.push(cost);
    drill.output.say(`  killed at step ${cost.atStep}, next new step after ${formatMs(cost.nextNewStepMs)}`);
  }
  const sha256 = await weightsOf(drill, run);
  const equal = sha256 === undisturbed;
  return { part, undisturbed, kills: costs.map((cost) => ({ ...cost, sha256, equal })), equal };
}

async function killOnce(
  drill: Drill,
  part: KillKind,
  run: string,
  moment: Moment,
  lastKilledAt: number,
): Promise<KillCost & { detectedMs: number }> {
  const afterStep = Math.max(moment.afterStep, lastKilledAt + 1);
  const limit = lastKilledAt === 0 ? FIRST_STEP_MS_MAX : RECOVERY_MS_MAX;
  const events = await until(drill, limit, `step ${afterStep} of run ${run}`, () => {
    const seen = readEvents(drill.state, run);
    return highestStep(seen) >= afterStep ? seen : null;
  });
  await sleep(moment.intoStep * secondsOfStep(events) * 1000, undefined, { signal: drill.signal });
  const before = identify(drill, part);
  if (before === null || hasEnded(readEvents(drill.state, run))) {
    throw new CliError(
      'drill_too_late',
      `Run ${run} trained on past step ${afterStep} to its end before ${NAMES[part]} could be killed; use a larger base model or fewer kills.`,
    );
  }
  const killedAtMs = Date.now();
  await kill(drill, part, before);
  const detectedMs = await until(drill, RECOVERY_MS_MAX, `a new ${part}`, () => {
    const now = identify(drill, part);
    return now !== null && now !== before ? Date.now() - killedAtMs : null;
  });
  const endsTrainer = part === 'trainer' || part === 'worker';
  const cost = await until(drill, RECOVERY_MS_MAX, `a new step of run ${run}`, () =>
    costOfKill(readEvents(drill.state, run), killedAtMs, endsTrainer),
  );
  return { ...cost, detectedMs };
}

/** The process whose replacement shows that the death was noticed: a killed worker is taken over when a new trainer runs. */
function identify(drill: Drill, part: KillKind): number | null {
  if (part === 'temporal' || part === 'store') return drill.stack.pidOf(part);
  return trainerPid(drill.state);
}

async function kill(drill: Drill, part: KillKind, pid: number): Promise<void> {
  if (part === 'trainer') process.kill(pid, 'SIGKILL');
  else
    await drill.stack.kill(
      ({ worker: 'gpu', temporal: 'temporal', store: 'store' } satisfies Record<string, PartName>)[part],
    );
}

function trainerPid(state: string): number | null {
  try {
    return (JSON.parse(readFileSync(join(state, 'gpu', 'trainer.json'), 'utf8')) as { pid: number }).pid;
  } catch {
    return null; // none runs, or its record is being written
  }
}

async function weightsOf(drill: Drill, run: string): Promise<string> {
  const { state, status } = await drill.client.waitForRun(run, { signal: drill.signal });
  if (status.training) return status.training.weightsSha256;
  throw new CliError(
    status.failure?.kind ?? 'unexpected',
    `Run ${run} ended ${state}: ${status.failure?.message ?? 'no reason given'}`,
  );
}

async function until<T>(drill: Drill, limitMs: number, what: string, look: () => T | null): Promise<T> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    drill.signal.throwIfAborted();
    const found = look();
    if (found !== null) return found;
    if (Date.now() > deadline) {
      throw new CliError('drill_timeout', `Waited ${limitMs / 1000} s in vain for ${what}; the logs say why.`);
    }
    await sleep(POLL_MS, undefined, { signal: drill.signal });
  }
}

function secondsOfStep(events: TimedEvent[]): number {
  return events.findLast((event) => event.ev === 'step')?.seconds ?? 0;
}

function hasEnded(events: TimedEvent[]): boolean {
  return events.at(-1)?.ev === 'done';
}
