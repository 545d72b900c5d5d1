// TrainingGang: one training on several hosts, until it is done. Asks the pool for all hosts at once, trains on them, and when the gang
// breaks gives them back, has the end judged and asks anew.
//
// Waiting: nothing is held. Granted: each host says what state it has; one that does not answer is left out of the next grant. Training:
// one activity per host on the host's own queue; the first that ends early ends all. A host is never tried again alone. Paused: an
// operator has paused one host's activity, so that all hosts have saved and ended; unpaused, it ends too, and the gang begins anew.
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  ChildWorkflowFailure,
  condition,
  continueAsNew,
  defineSignal,
  executeChild,
  isCancellation,
  patched,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  TimeoutFailure,
  workflowInfo,
} from '@temporalio/workflow';
import type * as activities from '../activities/types.ts';
import { isFailureKind, isFinal } from '../contracts/failure.ts';
import type { GangDeath, GangSeat, GangWish, HostOffer } from '../contracts/gang.ts';
import { hostQueue, POOL, WORKFLOWS } from '../contracts/names.ts';
import type { HostRequest, PoolAnswer } from '../contracts/pool.ts';
import type { TrainInput, TrainPaused, TrainResultSummary, TrainStopped } from '../contracts/stages.ts';
import type { Progress } from '../contracts/status.ts';
import {
  absentHosts,
  gpuSecondsOf,
  judgeAttempt,
  type MemberEnd,
  mayBePaused,
  placeHosts,
  wasAsked,
} from './policies/gang.ts';
import { STAGE_OPTIONS } from './stage-options.ts';

const { tellPool, judgeDeaths } = proxyActivities<activities.Pool>(STAGE_OPTIONS.pool);
const { offerState } = proxyActivities<activities.Member>(STAGE_OPTIONS.offer);
const { trainMember } = proxyActivities<activities.Member>(STAGE_OPTIONS.member);

const poolAnswer = defineSignal<[PoolAnswer]>(POOL.answer);

/** Once the gang is broken a host that is alive ends within this, ms; what a later one still writes is fenced. */
const LOST_MS = 5_000;
/** A gang that was asked to end saves and commits; longer than the longest grace of a host that does so, ms. */
const SAVE_MS = 15 * 60_000;
/** A pool that was made anew does not know who waits. */
const ASK_AGAIN = '1 hour';
/** Deaths that the next judgement sees: more than any of its limits. */
const DEATHS_MAX = 60;

type Result = TrainResultSummary | TrainPaused;

/** What outlives an attempt. */
interface GangState {
  attempts: number;
  /** Of the last attempt, ms since the epoch. */
  epoch: number;
  /** Names of the last attempt's hosts, by place. */
  hosts: string[];
  deaths: GangDeath[];
  wish: GangWish;
  before: GangSeat['before'];
  /** GPU seconds of the run so far; absent = as its input says. */
  gpuSeconds?: number;
}

const FRESH: GangState = {
  attempts: 0,
  epoch: 0,
  hosts: [],
  deaths: [],
  wish: { below: null, factor: 1, isWarmOk: true },
  before: null,
};

/** What a cancelled workflow cannot say by being cancelled. */
interface Stopped {
  stopped: TrainStopped;
}

/** `lost`: names of hosts that did not answer. */
type Outcome = { result: Result } | Stopped | { state: GangState; lost: string[] };

export async function TrainingGang(input: TrainInput, earlier: GangState = FRESH): Promise<Result | Stopped> {
  const withHosts = openPool(input);
  for (let state = earlier; ; ) {
    const outcome = await withHosts(state, (granted) => attempt(input, state, granted)).catch(throwCause);
    if ('result' in outcome) return outcome.result;
    if ('stopped' in outcome) return outcome;
    state = outcome.state;
    if (workflowInfo().continueAsNewSuggested) await continueAsNew<typeof TrainingGang>(input, state);
  }
}

/** The sentence of an activity's or a child's failure instead of the news that it failed. */
function throwCause(error: unknown): never {
  const isWrapped = error instanceof ActivityFailure || error instanceof ChildWorkflowFailure;
  throw isWrapped && error.cause !== undefined ? error.cause : error;
}

/** For the workflow of a run: what its train stage is on several hosts. Fails and is cancelled as an activity would be. */
export async function trainOnHosts(input: TrainInput, summary: string): Promise<Result> {
  const result = await executeChild<typeof TrainingGang>(WORKFLOWS.trainingGang, {
    workflowId: `${input.run}-gang`,
    args: [input],
    staticSummary: summary,
  }).catch(throwCause);
  if ('stopped' in result) throw new CancelledFailure('CANCELLED', [result.stopped]);
  return result;
}

type WithHosts = (state: GangState, work: (granted: string[]) => Promise<Outcome>) => Promise<Outcome>;

/** Borrows hosts of the pool and returns them, however the work ends. */
function openPool({ run, spec, size }: TrainInput): WithHosts {
  const { workflowId, runId: workflowRunId } = workflowInfo();
  const answers = new Map<string, PoolAnswer>();
  setHandler(poolAnswer, (answer) => void answers.set(answer.id, answer));

  const askFor = async (id: string, prefer: string[]): Promise<string[]> => {
    const { hosts, processes, device } = { ...spec.train, ...size };
    const request: HostRequest = {
      ...{ id, workflowId, workflowRunId, run, hosts, processes, device, prefer },
      team: spec.queue.team ?? 'default',
      priority: spec.queue.priority ?? 3,
    };
    setCurrentDetails(`Waits for ${hosts} hosts of [the pool](/namespaces/{namespace}/workflows/${POOL.id}).`);
    for (;;) {
      const options = { activityId: `ask-${id}`, summary: `${hosts} hosts with ${processes} ranks each` };
      await tellPool.executeWithOptions(options, [{ signal: 'requestHosts', about: request }]);
      if (await condition(() => answers.has(id), ASK_AGAIN)) break;
    }
    const answer = answers.get(id) as PoolAnswer;
    if ('refused' in answer) throw ApplicationFailure.nonRetryable(answer.refused, 'bad_request');
    return answer.granted;
  };

  return async (state, work) => {
    const id = `${workflowId}/${workflowRunId}/${state.attempts + 1}`;
    let lost: string[] = [];
    try {
      const outcome = await work(await askFor(id, state.hosts));
      if ('lost' in outcome) lost = outcome.lost;
      return outcome;
    } finally {
      await CancellationScope.nonCancellable(() =>
        tellPool.executeWithOptions({ activityId: `give-back-${id}`, summary: 'the hosts' }, [
          { signal: 'releaseHosts', about: { id, lost } },
        ]),
      );
    }
  };
}

async function attempt(input: TrainInput, before: GangState, granted: string[]): Promise<Outcome> {
  const hosts = placeHosts(before.hosts, granted);
  const state = { ...before, hosts, attempts: before.attempts + 1, epoch: Math.max(Date.now(), before.epoch + 1) };
  setCurrentDetails(`Attempt ${state.attempts} on ${hosts.join(', ')}.${pastOf(before)}`);
  const offers = await collectOffers(input, state);
  const first = offers[0];
  if (first?.done) return { result: first.done };
  const ready = offers.filter((offer) => offer !== null && !offer.isBusy) as HostOffer[];
  if (ready.length < hosts.length) {
    const { lost, absent } = absentHosts(offers, hosts, highestOf(before));
    return { lost, state: absent === null ? state : await judge(input, state, absent, null) };
  }
  const ends = await trainTogether(input, state, ready);
  const verdict = judgeAttempt(ends, hosts, highestOf(before));
  if (verdict.is === 'done') return { result: verdict.result };
  const gpuSeconds = gpuSecondsOf(ends, gpuSecondsBefore(input, before));
  if (CancellationScope.current().consideredCancelled) return { stopped: stoppedAt(ends, gpuSeconds) };
  if (verdict.is === 'over') throw ApplicationFailure.nonRetryable(verdict.message, verdict.kind);
  const next = await judge(input, state, verdict.death, microBatchOf(ends), verdict.receiptKind);
  // A trainer that has claimed has taken the wish over; what the others of this gang know may be older.
  const below = ends[0]?.ended === 'died' ? next.wish.below : (next.wish.below ?? before.wish.below);
  return {
    lost: verdict.lost.map((i) => hosts[i] as string),
    state: { ...next, gpuSeconds, wish: { ...next.wish, below } },
  };
}

function collectOffers(input: TrainInput, { hosts, attempts }: GangState): Promise<(HostOffer | null)[]> {
  return Promise.all(
    hosts.map(async (name, host) => {
      const options = { taskQueue: hostQueue(name), activityId: `offer-${attempts}-${host}`, summary: name };
      try {
        return await offerState.executeWithOptions(options, [{ ...input, host }]);
      } catch (error) {
        if (isCancellation(error) || !(endOf(error).ended === 'lost')) throw error;
        return null;
      }
    }),
  );
}

/** Ends when every host has ended, or when the gang is broken and those that still answer have ended. */
async function trainTogether(input: TrainInput, state: GangState, offers: HostOffer[]): Promise<(MemberEnd | null)[]> {
  const { hosts, epoch, wish, before } = state;
  const ends: (MemberEnd | null)[] = hosts.map(() => null);
  const scope = new CancellationScope();
  const member = async (host: number) => {
    const name = hosts[host] as string;
    const options = { taskQueue: hostQueue(name), activityId: `train-${state.attempts}-${host}`, summary: name };
    const seat: GangSeat = { epoch, host, hosts, offers, wish, before };
    const known = gpuSecondsBefore(input, state);
    const own = { ...input, seat, ...(known > 0 && { gpuSecondsBefore: known }) };
    ends[host] = await trainMember.executeWithOptions(options, [own]).catch(endOf);
  };
  void scope.run(() => Promise.all(hosts.map((_, host) => member(host))));
  const isOver = () => ends[0]?.ended === 'done' || ends.every((end) => end !== null);
  const run = CancellationScope.current();
  await CancellationScope.nonCancellable(async () => {
    await condition(() => isOver() || ends.some((end) => end !== null && end.ended !== 'done'));
    if (mayBePaused(ends) && patched('member-paused')) {
      setCurrentDetails(pausedText(state, ends));
      await condition(() => !mayBePaused(ends) || run.consideredCancelled);
    }
    scope.cancel();
    await condition(() => isOver() || run.consideredCancelled || wasAsked(ends), LOST_MS);
    if (run.consideredCancelled || wasAsked(ends)) await condition(isOver, SAVE_MS);
  });
  return ends;
}

function endOf(error: unknown): MemberEnd {
  const cause = error instanceof ActivityFailure ? error.cause : error;
  if (cause instanceof CancelledFailure) return { ended: 'cancelled', details: cause.details ?? [] };
  if (cause instanceof TimeoutFailure) {
    const { step = null, gpuSeconds = null } = (cause.lastHeartbeatDetails ?? {}) as Partial<Progress>;
    return { ended: 'lost', step, gpuSeconds };
  }
  const message = cause instanceof Error ? cause.message : String(cause);
  const type = cause instanceof ApplicationFailure ? cause.type : undefined;
  // What has no kind of ours is the end of a worker.
  const kind = isFailureKind(type) ? type : 'preempted';
  const isOver = isFinal(kind) || (cause instanceof ApplicationFailure && cause.nonRetryable === true);
  return { ended: 'failed', kind, message, isFinal: isOver };
}

/** The step by the first host's word. */
function stoppedAt(ends: (MemberEnd | null)[], gpuSeconds: number): TrainStopped {
  const first = ends[0];
  if (first?.ended === 'died') return { step: first.death.highest, gpuSeconds };
  const [details] = first?.ended === 'cancelled' ? first.details : [];
  return { step: (details as TrainStopped | undefined)?.step ?? null, gpuSeconds };
}

function gpuSecondsBefore(input: TrainInput, state: GangState): number {
  return Math.max(input.gpuSecondsBefore ?? 0, state.gpuSeconds ?? 0);
}

function pausedText({ attempts, hosts }: GangState, ends: (MemberEnd | null)[]): string {
  const open = hosts.filter((_, host) => ends[host] === null);
  return `Attempt ${attempts} was asked to end. ${open.join(', ')} still saves, or its activity was paused by an operator: unpause it to go on.`;
}

async function judge(
  { spec }: TrainInput,
  state: GangState,
  death: GangDeath,
  microBatch: number | null,
  receiptKind = death.kind,
): Promise<GangState> {
  const deaths = [...state.deaths, death].slice(-DEATHS_MAX);
  const options = { activityId: `judge-${state.attempts}`, summary: death.message.slice(0, 100) };
  const wish = await judgeDeaths.executeWithOptions(options, [
    { spec, deaths, microBatch: microBatch ?? spec.train.microBatch },
  ]);
  return { ...state, deaths, wish, before: { kind: receiptKind, message: death.message, step: death.highest } };
}

function highestOf({ deaths }: GangState): number {
  return Math.max(0, ...deaths.map(({ highest }) => highest));
}

function microBatchOf(ends: (MemberEnd | null)[]): number | null {
  const died = ends.find((end) => end?.ended === 'died');
  return died?.ended === 'died' ? died.microBatch : null;
}

function pastOf({ before }: GangState): string {
  return before === null ? '' : ` The last one ended at step ${before.step}: ${before.message}`;
}
