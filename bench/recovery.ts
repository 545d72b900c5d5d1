// A killed worker: how long until another attempt has the run, and until it trains. Each round is a run of its own on a stack of its own,
// because Temporal waits longer before each further retry of one activity.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { weightsOf, withDrill } from '../src/cli/commands/drill.ts';
import { type Drill, type Kill, killOnce } from '../src/cli/drill/kill.ts';
import { createOutput } from '../src/cli/output.ts';
import { type BenchOptions, type BenchReport, median, round, show } from './report.ts';

const ROUNDS = { full: 5, quick: 1 };
/** As `STAGE_OPTIONS.gpu` has them, ms. */
const HEARTBEAT_TIMEOUT_MS = 30_000;
const RETRY_WAIT_MS = 1_000;

type Round = Kill & { equal: boolean };

export async function run({ quick, signal, say }: BenchOptions): Promise<BenchReport> {
  const state = mkdtempSync(join(tmpdir(), 'anneal-bench-'));
  const output = createOutput({ json: true });
  const rounds = await withDrill({ base: 'tiny' }, state, output, signal, (drill) =>
    killWorkers(drill, quick ? ROUNDS.quick : ROUNDS.full, say),
  ).finally(() => rmSync(state, { recursive: true, force: true }));
  const p50 = (of: (round: Round) => number) => round(median(rounds.map(of)));
  const claimedMs = rounds.map(({ takenOverMs }) => takenOverMs ?? Number.POSITIVE_INFINITY);
  const json = {
    rounds: rounds.length,
    heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS,
    claimedAgainMsP50: round(median(claimedMs)),
    claimedAgainMsMax: round(Math.max(...claimedMs)),
    detectionMsMax: round(Math.max(...claimedMs) - RETRY_WAIT_MS),
    killToTrainerMsP50: p50(({ detectedMs }) => detectedMs),
    killToFirstNewStepMsP50: p50(({ nextNewStepMs }) => nextNewStepMs),
    stepsLostP50: p50(({ stepsLost }) => stepsLost),
    weightsEqual: rounds.every(({ equal }) => equal),
  };
  return {
    title: 'Recovery from a killed worker',
    json,
    columns: [
      'round',
      'kill → claimed again',
      'kill → trainer',
      'kill → first new step',
      'steps lost',
      'weights equal',
    ],
    rows: rounds.map((its, i) => [
      i + 1,
      show(its.takenOverMs, 0, 'ms'),
      show(its.detectedMs, 0, 'ms'),
      show(its.nextNewStepMs, 0, 'ms'),
      its.stepsLost,
      show(its.equal),
    ]),
    notes: [
      `The heartbeat timeout is ${HEARTBEAT_TIMEOUT_MS / 1000} s; the killed worker is started again at once, and the run waits for the timeout.`,
      `Claimed again: the server has noticed, and has waited the ${RETRY_WAIT_MS / 1000} s of a retry. Goal: noticed after the heartbeat timeout plus at most 1 s.`,
    ],
  };
}

async function killWorkers(drill: Drill, rounds: number, say: (line: string) => void): Promise<Round[]> {
  await drill.client.startRun(drill.spec, { runId: 'undisturbed' });
  const undisturbed = await weightsOf(drill, 'undisturbed');
  const killed: Round[] = [];
  for (let i = 1; i <= rounds; i++) {
    say(`round ${i} of ${rounds}`);
    const run = `killed-${i}`;
    await drill.client.startRun(drill.spec, { runId: run });
    const kill = await killOnce(drill, 'worker', run, { afterStep: 5 + i, intoStep: 0.5 }, 0);
    killed.push({ ...kill, equal: (await weightsOf(drill, run)) === undisturbed });
  }
  return killed;
}
