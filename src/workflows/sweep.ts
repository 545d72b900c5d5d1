// Sweep: trials of one spec, compared at rungs; the best goes on to its end, the others stay paused, to be resumed by hand.
//
// Trials are FineTune runs of their own, with ids that follow from the sweep's. Rung by rung: every trial that is still in trains to the
// rung and waits there (it says so by a signal), the best are let go on, the others have lost. A trial that people or its budget have
// paused before its rung is named on the page and left out of the comparison, unless it is resumed before the others have come that far;
// where nobody is left to compare, the sweep waits. Its history is bounded (64 trials, 8 rungs, three events each), so it never continues
// as new.
//
// Where the sweep has a budget of its own, each trial goes on with a part of it and stops when that is used up; it goes on with what others
// have left, and where nobody has left enough the sweep asks.
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import {
  ApplicationFailure,
  CancellationScope,
  type ChildWorkflowHandle,
  condition,
  defineQuery,
  isCancellation,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  startChild,
  workflowInfo,
} from '@temporalio/workflow';
import type * as activities from '../activities/types.ts';
import { type Budget, isBounded, NO_BUDGET } from '../contracts/budget.ts';
import { isFailureKind } from '../contracts/failure.ts';
import { STATUS_QUERY, WORKFLOWS } from '../contracts/names.ts';
import type { SpecInput } from '../contracts/spec.ts';
import type { Allotment, RunStatus, SweepStatus, TrialHeld, TrialStatus } from '../contracts/status.ts';
import type { SweepInput } from '../contracts/sweep.ts';
import type { FineTune } from './fine-tune.ts';
import { allotSignal, promoteSignal, rungReachedSignal, trialHeldSignal } from './pausing.ts';
import { countKept, rank } from './policies/halving.ts';
import { prepareDataset } from './preparation.ts';
import { STAGE_OPTIONS } from './stage-options.ts';
import { openPurse, type Purse } from './sweep-budget.ts';
import { renderSweepPage } from './sweep-page-text.ts';

const { checkSweep } = proxyActivities<activities.Check>(STAGE_OPTIONS.check);
const { ingest } = proxyActivities<activities.Data>(STAGE_OPTIONS.data);

const statusQuery = defineQuery<SweepStatus>(STATUS_QUERY);

type CheckedSweep = Awaited<ReturnType<typeof checkSweep>>;

interface Contest {
  /** The activity's answer; before it there are no trials. */
  plan: CheckedSweep;
  status: SweepStatus;
  /** By run. */
  handles: Map<string, ChildWorkflowHandle<typeof FineTune>>;
  results: Map<string, RunStatus>;
  failures: Map<string, { kind: string; message: string }>;
  purse: Purse;
  /** Runs that wait for more of the sweep's budget. */
  starving: Set<string>;
  /** Trials that are on the way, and the rung that they go to; above 1 = their end. */
  leg: { trials: TrialStatus[]; rung: number };
  show(): void;
}

export async function Sweep(input: SweepInput): Promise<SweepStatus> {
  const status = openStatus(workflowInfo().workflowId);
  const contest = await openContest(status, input);
  try {
    await prepareData(status.sweep, contest.plan);
    await crown(contest, await contend(contest));
    return status;
  } catch (error) {
    if (isCancellation(error)) await untilTrialsEnded(contest);
    throw error;
  } finally {
    contest.purse.close();
  }
}

/** Rung by rung; the best of the last. */
async function contend(contest: Contest): Promise<TrialStatus[]> {
  const { plan, status } = contest;
  let standing = status.trials;
  for (const [i, rung] of plan.rungs.entries()) {
    contest.leg = { trials: standing, rung };
    await forEach(standing, plan.concurrent, (trial) => reach(contest, trial, rung));
    await condition(() => isComparable(contest, standing));
    standing = judge(contest, standing, i);
    if (standing.length === 0) throw nobodyLeft(contest);
  }
  return standing;
}

/** Nobody is on the way to the rung, and somebody is there, or nobody can come any more. */
function isComparable({ starving }: Contest, trials: TrialStatus[]): boolean {
  const has = (wanted: TrialStatus['state']) => trials.some(({ state }) => state === wanted);
  return !has('training') && !trials.some(({ run }) => starving.has(run)) && (has('paused') || !has('held'));
}

/** A cancelled sweep has cancelled its trials with it, the paused ones too; each saves first. */
async function untilTrialsEnded({ handles, results, failures }: Contest): Promise<void> {
  const isOpen = (run: string) => !results.has(run) && !failures.has(run);
  await CancellationScope.nonCancellable(() => condition(() => ![...handles.keys()].some(isOpen)));
}

function openStatus(sweep: string): SweepStatus {
  const status: SweepStatus = { sweep, name: sweep, rungs: [], trials: [], winner: null, result: null };
  setHandler(statusQuery, () => status, { description: 'Trials with step, validation loss and standing; the winner.' });
  return status;
}

async function openContest(status: SweepStatus, input: SweepInput): Promise<Contest> {
  const options = { activityId: 'check-sweep', summary: 'the sweep and its trials' };
  const plan = await checkSweep.executeWithOptions(options, [{ input }]);
  const trials = plan.trials.map(
    ({ run, changes }): TrialStatus => ({
      ...{ run, changes, state: 'waiting', share: 0, step: null, evalLoss: null, why: null },
      isOutOfBudget: false,
    }),
  );
  Object.assign(status, { name: plan.name, rungs: plan.rungs, trials } satisfies Partial<SweepStatus>);
  const budget = plan.budget ?? NO_BUDGET;
  if (isBounded(budget)) status.budget = budget;
  const contest: Contest = {
    ...{ plan, status, handles: new Map(), results: new Map(), failures: new Map() },
    ...{ starving: new Set(), leg: { trials, rung: 0 }, purse: openPurseFor(() => contest, budget, status) },
    show() {
      const asks = contest.purse.question();
      if (asks !== null || status.asks !== undefined) status.asks = asks;
      setCurrentDetails(renderSweepPage(status));
    },
  };
  listen(contest);
  contest.show();
  return contest;
}

function openPurseFor(contest: () => Contest, budget: Budget, status: SweepStatus): Purse {
  return openPurse({
    ...{ status, budget },
    ahead() {
      const { plan, leg } = contest();
      const isAhead = ({ share, state }: TrialStatus) =>
        share < leg.rung && !['done', 'failed', 'lost'].includes(state);
      return Math.min(plan.concurrent, leg.trials.filter(isAhead).length);
    },
    tell(run, allotment) {
      void contest().handles.get(run)?.signal(allotSignal, allotment).catch(ignoreLost);
    },
    show: () => contest().show(),
  });
}

/** To what the trials say of themselves. */
function listen(contest: Contest): void {
  const { trials } = contest.status;
  const { handles, purse, show } = contest;
  const told = <T extends { run: string }>(change: (trial: TrialStatus, word: T) => Promise<void> | void) => {
    return async (word: T) => {
      const trial = trials.find(({ run }) => run === word.run);
      if (trial === undefined) return;
      await change(trial, word);
      show();
    };
  };
  setHandler(
    rungReachedSignal,
    told(async (trial, { share, step, evalLoss, gpuSeconds }) => {
      Object.assign(trial, { share, step, evalLoss, ...(gpuSeconds !== undefined && { gpuSeconds }) });
      purse.settle(trial);
      // Who was left out and resumed by hand goes on to its end.
      if (trial.state === 'lost') await handles.get(trial.run)?.signal(promoteSignal).catch(unlessCancelled);
      else trial.state = 'paused';
    }),
  );
  setHandler(
    trialHeldSignal,
    told((trial, word) => {
      if (trial.state !== (word.why === null ? 'held' : 'training')) return;
      hold(trial, word);
      if (word.needsMore) feed(contest, trial).catch(ignoreLost);
    }),
  );
}

function hold(trial: TrialStatus, { step, why, isOutOfBudget, gpuSeconds }: TrialHeld): void {
  const state = why === null ? 'training' : 'held';
  Object.assign(trial, { state, step, why, isOutOfBudget, ...(gpuSeconds !== undefined && { gpuSeconds }) });
}

/** Lets a trial go on whose part of the budget is used up, as soon as there is more. */
async function feed({ purse, starving, handles, show }: Contest, trial: TrialStatus): Promise<void> {
  purse.settle(trial);
  starving.add(trial.run);
  const allotment = await purse.allot(trial);
  starving.delete(trial.run);
  if (trial.state !== 'held') return;
  Object.assign(trial, { state: 'training', why: null, isOutOfBudget: false } satisfies Partial<TrialStatus>);
  show();
  await handles.get(trial.run)?.signal(allotSignal, allotment ?? { gpuSeconds: null });
}

/** Once for all trials, which then find it done, and so that wrong data ends the sweep before any of them begins. */
async function prepareData(run: string, { spec }: CheckedSweep): Promise<void> {
  const { snapshot, suites } = await ingest.executeWithOptions({ activityId: 'ingest', summary: 'the sources' }, [
    { run, spec },
  ]);
  await prepareDataset({ run, spec, snapshot, suites }, { activityId: 'preprocess', summary: 'for all trials' });
}

/** Resolves when the trial waits at the rung, or has ended. */
async function reach(contest: Contest, trial: TrialStatus, rung: number): Promise<void> {
  // Its training was so short that it is done.
  if (trial.share >= rung) return;
  const allotment = await contest.purse.allot(trial);
  trial.state = 'training';
  contest.show();
  const handle = contest.handles.get(trial.run);
  if (handle === undefined) await start(contest, trial, allotment);
  else await promote(handle, allotment);
  await condition(() => trial.state !== 'training' && !contest.starving.has(trial.run));
}

async function promote(handle: ChildWorkflowHandle<typeof FineTune>, allotment?: Allotment): Promise<void> {
  const words: [Allotment?] = allotment === undefined ? [] : [allotment];
  await handle.signal(promoteSignal, ...words).catch(unlessCancelled);
}

async function start(contest: Contest, trial: TrialStatus, allotment?: Allotment): Promise<void> {
  const { plan, status, handles, results } = contest;
  const spec = plan.trials.find(({ run }) => run === trial.run)?.spec as SpecInput;
  try {
    const handle = await startChild<typeof FineTune>(WORKFLOWS.fineTune, {
      workflowId: trial.run,
      workflowIdReusePolicy: 'ALLOW_DUPLICATE_FAILED_ONLY',
      // Who lost stays paused after the sweep has ended.
      parentClosePolicy: 'ABANDON',
      cancellationType: 'WAIT_CANCELLATION_COMPLETED',
      staticSummary: `${status.name}: ${trial.changes}`.slice(0, 130),
      args: [spec, { sweep: status.sweep, rungs: plan.rungs, ...(allotment && { allotment }) }],
    });
    handles.set(trial.run, handle);
    handle.result().then(
      (result) => {
        results.set(trial.run, result);
        trial.gpuSeconds = result.gpuSeconds ?? trial.gpuSeconds ?? 0;
        end(contest, trial, 'done', null);
      },
      (error: unknown) => end(contest, trial, 'failed', error),
    );
  } catch (error) {
    if (isCancellation(error) && CancellationScope.current().consideredCancelled) throw error;
    end(contest, trial, 'failed', error);
  }
}

function end(contest: Contest, trial: TrialStatus, state: 'done' | 'failed', error: unknown): void {
  if (state === 'failed') {
    const failure = failureOf(error, trial.run);
    contest.failures.set(trial.run, failure);
    trial.why = failure.message;
  }
  trial.state = state;
  contest.purse.settle(trial, state === 'failed');
  contest.show();
}

/** The trials that go on after this rung; of the others it notes why they do not. */
function judge({ plan, show }: Contest, trials: TrialStatus[], i: number): TrialStatus[] {
  const rung = plan.rungs[i] as number;
  const waiting = trials.filter(({ state }) => state === 'paused');
  const ranked = rank(waiting);
  const kept = ranked.slice(0, countKept(ranked.length, plan.keep, i === plan.rungs.length - 1));
  for (const trial of waiting.filter((one) => !kept.includes(one))) {
    trial.state = 'lost';
    const place = ranked.indexOf(trial) + 1;
    const at = `${Math.round(rung * 100)} % of the steps`;
    trial.why =
      place === 0
        ? `no validation loss at ${at}`
        : `place ${place} of ${ranked.length} at ${at}, ${kept.length} went on`;
  }
  for (const trial of trials.filter(({ state }) => state === 'held')) {
    trial.state = 'lost';
    trial.why = `left out at ${Math.round(rung * 100)} % of the steps: ${trial.why}`;
  }
  show();
  return kept;
}

/** The best goes on to its end; where it fails there, the next best of the last rung does. A refused gate is an answer, not a failure. */
async function crown(contest: Contest, [best]: TrialStatus[]): Promise<void> {
  const { status, handles, results, failures, show } = contest;
  const last = Math.max(...status.trials.map(({ share }) => share));
  const others = rank(status.trials.filter((one) => one !== best && one.state === 'lost' && one.share === last));
  for (const trial of best === undefined ? [] : [best, ...others]) {
    contest.leg = { trials: [trial], rung: Number.POSITIVE_INFINITY };
    const allotment = await contest.purse.allot(trial);
    trial.state = 'training';
    trial.why = null;
    status.winner = trial.run;
    show();
    const handle = handles.get(trial.run);
    if (handle !== undefined) await promote(handle, allotment);
    await condition(() => trial.state === 'done' || trial.state === 'failed');
    status.result = results.get(trial.run) ?? null;
    if (status.result !== null) trial.state = 'won';
    show();
    if (status.result !== null) return;
    if (failures.get(trial.run)?.kind === 'gate_failed') break;
  }
  const failure = failures.get(status.winner ?? '');
  throw ApplicationFailure.nonRetryable(
    `The best trial ${status.winner} did not come to its end: ${failure?.message}`,
    failure?.kind ?? 'trainer_bug',
  );
}

function nobodyLeft({ status, failures }: Contest): ApplicationFailure {
  const first = status.trials.find(({ why }) => why !== null);
  const kind = failures.get(first?.run ?? '')?.kind ?? 'bad_request';
  return ApplicationFailure.nonRetryable(`No trial is left; the first, ${first?.run}, ended with: ${first?.why}`, kind);
}

/** Works on all of them, so many at once. */
async function forEach<T>(all: T[], concurrent: number, work: (one: T) => Promise<void>): Promise<void> {
  const waiting = [...all];
  const worker = async () => {
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) await work(one);
  };
  await Promise.all(Array.from({ length: Math.min(concurrent, all.length) }, worker));
}

/** A trial that has ended meanwhile says so itself. */
function unlessCancelled(error: unknown): void {
  if (isCancellation(error)) throw error;
}

/** In the background: who has ended, and a sweep that is cancelled, need no word. */
function ignoreLost(): void {}

/** The innermost failure with a kind. */
function failureOf(error: unknown, run: string): { kind: string; message: string } {
  if (error instanceof WorkflowExecutionAlreadyStartedError) {
    return {
      kind: 'bad_request',
      message: `Run ${run} is under way or complete already; cancel it, or name the sweep anew.`,
    };
  }
  if (isCancellation(error)) return { kind: 'cancelled', message: 'It was cancelled.' };
  let found = { kind: 'trainer_bug', message: error instanceof Error ? error.message : String(error) };
  for (let e: unknown = error; e instanceof Error; e = e.cause) {
    if (e instanceof ApplicationFailure && isFailureKind(e.type)) found = { kind: e.type, message: e.message };
  }
  return found;
}
