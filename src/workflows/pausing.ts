// The pauses of a training: asked for by people, at the end of its budget, or at a rung of its sweep. The activity ends, the GPU is free,
// everything is saved, and the workflow waits, for days if need be.
//
// Training: the activity runs in a scope of its own. Whoever pauses the run cancels that scope; the trainer saves at its next step edge.
// A new budget cancels it too, and so does another number of hosts; it begins again at once under the new terms.
// Paused: nothing runs. Resuming goes on; cancelling the workflow ends it. A pause that comes when the training is just done holds before
// the next stage.
//
// A run that is never paused makes the same commands as one without any of this.
import type { SignalDefinition } from '@temporalio/common';
import {
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  defineSignal,
  defineUpdate,
  getExternalWorkflowHandle,
  isCancellation,
  patched,
  proxyActivities,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type * as activities from '../activities/types.ts';
import {
  type Budget,
  BY_BUDGET,
  gpuSecondsMax,
  NO_BUDGET,
  reachedLimit,
  unpricedCostUsd,
} from '../contracts/budget.ts';
import { describeSize, type GangSize, isExact, sizeProblem } from '../contracts/gang-size.ts';
import { SIGNALS, UPDATES } from '../contracts/names.ts';
import type { Recipe, Spec } from '../contracts/spec.ts';
import type { TrainInput, TrainLimits, TrainPaused, TrainResultSummary, TrainStopped } from '../contracts/stages.ts';
import type {
  Allotment,
  BudgetRequest,
  Pause,
  PauseRequest,
  ResumeRequest,
  RungReached,
  Trial,
  TrialHeld,
} from '../contracts/status.ts';
import { watchDeadline } from './deadline.ts';
import { changeProblem } from './policies/budget-change.ts';
import type { RunPage } from './run-page.ts';
import { STAGE_OPTIONS } from './stage-options.ts';

const { checkSize } = proxyActivities<activities.Size>(STAGE_OPTIONS.size);

export const rungReachedSignal = defineSignal<[RungReached]>(SIGNALS.rungReached);
export const promoteSignal = defineSignal<[Allotment?]>(SIGNALS.promote);
export const allotSignal = defineSignal<[Allotment]>(SIGNALS.allot);
export const trialHeldSignal = defineSignal<[TrialHeld]>(SIGNALS.trialHeld);

/** Of a name and of a reason, characters: they are shown on one line. */
const TEXT_MAX = 500;

type Outcome = TrainResultSummary | TrainPaused;
type Attempt = (terms: TrainLimits & Pick<TrainInput, 'size'>) => Promise<Outcome>;

interface Inputs {
  spec: Spec;
  /** Digest of the dataset. */
  dataset: string;
}

interface Course {
  run: string;
  startedMs: number;
  page: RunPage;
  trial: Trial | undefined;
  /** Those that are still ahead. */
  rungs: number[];
  /** Of the sweep's budget, GPU seconds over all attempts; null = it sets no limit. */
  allotted: number | null;
  budget: Budget;
  /** null until the training begins. */
  inputs: Inputs | null;
  /** Of the inputs' spec. */
  recipe: Recipe | null;
  /** Absent = the recipe's own. */
  size: GangSize | undefined;
  pause: Pause | null;
  /** Of the activity that runs, or null. */
  scope: CancellationScope | null;
  isTraining: boolean;
  /** As far as the activities have told. */
  gpuSeconds: number;
  step: number | null;
}

export interface Pausing {
  /** Trains to the end, however often it is paused. */
  train(inputs: Inputs, attempt: Attempt): Promise<TrainResultSummary>;
}

/** @param wanted hosts and ranks in place of the spec's. */
export function openPausing(page: RunPage, trial?: Trial, wanted: Partial<GangSize> = {}): Pausing {
  const { workflowId, startTime } = workflowInfo();
  const course: Course = {
    run: workflowId,
    startedMs: startTime.getTime(),
    ...{
      page,
      trial,
      rungs: trial?.rungs ?? [],
      allotted: trial?.allotment?.gpuSeconds ?? null,
      budget: NO_BUDGET,
      inputs: null,
      recipe: null,
      size: undefined,
    },
    ...{ pause: null, scope: null, isTraining: false, gpuSeconds: 0, step: null },
  };
  handlePause(course);
  handleResume(course);
  handleBudget(course);
  if (trial !== undefined) {
    setHandler(promoteSignal, (allotment) => promote(course, trial, allotment));
    setHandler(allotSignal, (allotment) => allot(course, trial, allotment));
  }
  return {
    async train(inputs, attempt) {
      const { spec } = inputs;
      course.inputs = inputs;
      course.budget = spec.budget ?? NO_BUDGET;
      course.recipe = spec.train;
      course.isTraining = true;
      const size = sizeOf(course, wanted);
      if (size !== null) {
        requireSize(course, size);
        await requireMemory(course, size);
        resize(course, size);
      }
      return await trainToTheEnd(course, attempt).finally(() => {
        course.isTraining = false;
      });
    },
  };
}

async function trainToTheEnd(course: Course, attempt: Attempt): Promise<TrainResultSummary> {
  for (;;) {
    pauseAtLimit(course);
    const result = course.pause === null ? await judge(course, await once(course, attempt)) : null;
    // A run may be paused anew while its sweep is told that it goes on.
    while (course.pause !== null) await untilResumed(course);
    if (result !== null) return result;
  }
}

/** One activity, from its start to its end; null when it was told to stop. */
async function once(course: Course, attempt: Attempt): Promise<Outcome | null> {
  const scope = new CancellationScope();
  course.scope = scope;
  const deadline = watchDeadline(course.budget, course.startedMs, () => pauseAtLimit(course));
  try {
    const { size } = course;
    return await scope.run(() => attempt({ ...limitsOf(course), ...(size && { size }) }));
  } catch (error) {
    if (!isCancellation(error) || CancellationScope.current().consideredCancelled) throw error;
    count(course, stoppedOf(error));
    return null;
  } finally {
    course.scope = null;
    deadline.cancel();
  }
}

/** What an activity's end means; the result when the training is done. */
async function judge(course: Course, outcome: Outcome | null): Promise<TrainResultSummary | null> {
  if (outcome === null) return null;
  if ('paused' in outcome) {
    const { kind, evalLoss, pricePerGpuHour = null } = outcome.paused;
    count(course, outcome.paused);
    course.budget = { ...course.budget, pricePerGpuHour: course.budget.pricePerGpuHour ?? pricePerGpuHour };
    if (kind === 'budget_reached') pauseAtLimit(course);
    else await holdAtRung(course, course.rungs[0] ?? 1, evalLoss);
    return null;
  }
  count(course, { step: outcome.step, gpuSeconds: outcome.gpuSeconds ?? null });
  if (course.rungs.length > 0) await holdAtRung(course, 1, outcome.evalLoss ?? null);
  return outcome;
}

async function untilResumed(course: Course): Promise<void> {
  if (course.pause === null) return;
  setPause(course, { ...course.pause, isSaving: false, step: course.step });
  course.page.markPaused(true);
  const isHeld = await tellHeld(course);
  await condition(() => course.pause === null);
  course.page.markPaused(false);
  if (isHeld)
    await tellSweep(course.trial, trialHeldSignal, {
      ...{ run: course.run, step: course.step, why: null, isOutOfBudget: false, gpuSeconds: course.gpuSeconds },
    });
}

/** A trial that waits for people, not for its sweep, says so, lest the others wait for it. */
async function tellHeld({ run, step, pause, trial, gpuSeconds }: Course): Promise<boolean> {
  if (trial === undefined || pause === null || pause.kind === 'rung' || !patched('trial-held')) return false;
  const isOutOfBudget = pause.kind === 'budget_reached';
  const why = `paused by ${pause.by}: ${pause.why}`;
  const needsMore = isAtAllotment(pause, trial);
  await tellSweep(trial, trialHeldSignal, { run, step, why, isOutOfBudget, needsMore, gpuSeconds });
  return true;
}

/** A sweep that has ended needs no word: the run waits for somebody to resume it. */
async function tellSweep<T>(trial: Trial | undefined, signal: SignalDefinition<[T]>, word: T): Promise<void> {
  if (trial === undefined) return;
  await getExternalWorkflowHandle(trial.sweep)
    .signal(signal, word)
    .catch((error: unknown) => {
      if (isCancellation(error)) throw error;
    });
}

async function holdAtRung(course: Course, share: number, evalLoss: number | null): Promise<void> {
  const { run, step, trial, gpuSeconds } = course;
  if (trial === undefined) return;
  const { sweep } = trial;
  course.rungs = course.rungs.filter((rung) => rung > share);
  const why = `It waits at ${Math.round(share * 100)} % of its steps for the others of sweep ${sweep}.`;
  if (course.pause === null) begin(course, 'rung', sweep, why);
  await tellSweep(trial, rungReachedSignal, { run, share, step: step ?? 0, evalLoss, gpuSeconds });
}

async function promote(course: Course, { sweep }: Trial, allotment?: Allotment): Promise<void> {
  if (allotment !== undefined) course.allotted = allotment.gpuSeconds;
  if (course.pause?.kind === 'rung') end(course, sweep, 'it is among the best');
  else await tellHeld(course);
}

/** Another part of the sweep's budget: what waits for it goes on, what trains begins anew under it. */
function allot(course: Course, trial: Trial, { gpuSeconds }: Allotment): void {
  if (gpuSeconds === course.allotted) return;
  course.allotted = gpuSeconds;
  const { pause } = course;
  if (pause !== null) {
    if (isAtAllotment(pause, trial) && !isUsedUp(course)) end(course, trial.sweep, 'its budget allows more');
  } else if (course.isTraining) {
    pauseAtLimit(course);
    if (course.pause === null) course.scope?.cancel();
  }
}

function isAtAllotment({ kind, by }: Pause, trial: Trial | undefined): boolean {
  return kind === 'budget_reached' && by === trial?.sweep;
}

function isUsedUp({ allotted, gpuSeconds }: Course): boolean {
  return allotted !== null && gpuSeconds >= allotted;
}

function limitsOf({ budget, allotted, gpuSeconds, rungs: [rung] }: Course): TrainLimits {
  const limits = [gpuSecondsMax(budget), allotted].filter((limit) => limit !== null);
  const most = limits.length === 0 ? null : Math.min(...limits);
  const unpriced = unpricedCostUsd(budget);
  return {
    ...(most === null ? {} : { gpuSecondsMax: most }),
    ...(unpriced === null ? {} : { costUsdMax: unpriced }),
    ...(gpuSeconds === 0 ? {} : { gpuSecondsBefore: gpuSeconds }),
    ...(rung === undefined || rung >= 1 ? {} : { pauseAt: rung }),
  };
}

/** Pauses a run whose budget is used up, or its part of its sweep's. */
function pauseAtLimit(course: Course): void {
  const { run, budget, pause, trial } = course;
  if (pause !== null) return;
  const reached = limitReached(course, budget);
  if (reached === null) {
    if (trial !== undefined && isUsedUp(course))
      begin(
        course,
        'budget_reached',
        trial.sweep,
        `Its part of the sweep’s budget is used up; \`anneal budget ${trial.sweep}\` gives the sweep more.`,
      );
    return;
  }
  const more = `\`anneal budget ${run}\` with \`--gpu-hours\`, \`--cost-usd\` or \`--deadline\` gives more and goes on`;
  begin(course, 'budget_reached', BY_BUDGET, `${reached} ${more}; \`anneal cancel ${run}\` ends it.`);
}

function limitReached({ gpuSeconds, startedMs }: Course, budget: Budget): string | null {
  return reachedLimit(budget, { gpuSeconds, startedMs, nowMs: Date.now() });
}

function begin(course: Course, kind: Pause['kind'], by: string, why: string): void {
  const { scope, step, page } = course;
  setPause(course, { kind, by, why, since: new Date().toISOString(), isSaving: scope !== null, step });
  page.decide(by, 'paused', why);
  scope?.cancel();
}

function end(course: Course, by: string, why: string): void {
  setPause(course, null);
  course.page.decide(by, 'resumed', why);
}

function setPause(course: Course, pause: Pause | null): void {
  course.pause = pause;
  course.page.update({ paused: pause });
}

function count(course: Course, { step, gpuSeconds }: TrainStopped): void {
  course.step = step ?? course.step;
  course.gpuSeconds = Math.max(course.gpuSeconds, gpuSeconds ?? 0);
  course.page.update({ gpuSeconds: course.gpuSeconds });
}

function stoppedOf(error: unknown): TrainStopped {
  for (let e: unknown = error; e instanceof Error; e = e.cause) {
    if (e instanceof CancelledFailure && e.details?.[0]) return e.details[0] as TrainStopped;
  }
  return { step: null, gpuSeconds: null };
}

function handlePause(course: Course): void {
  const { run } = course;
  setHandler(
    defineUpdate<void, [PauseRequest?]>(UPDATES.pause),
    ({ by, why } = {}) => begin(course, 'requested', textOf(by, 'somebody'), textOf(why, 'no reason given')),
    {
      description:
        'Saves, frees the GPU and waits for `resume`. Takes {"by": "who", "why": "a reason"}, both optional.',
      validator: (request = {}) => {
        requireTexts(request);
        if (!course.isTraining)
          refuse(`Run ${run} is not training, and only a training can be paused; wait or cancel it.`);
        const { pause } = course;
        if (pause !== null) refuse(`Run ${run} is paused already, since ${pause.since}: ${pause.why}`);
      },
    },
  );
}

function handleResume(course: Course): void {
  setHandler(
    defineUpdate<void, [ResumeRequest?]>(UPDATES.resume),
    (request = {}) => {
      const size = sizeOf(course, request);
      if (size === null) return goOn(course, request, null);
      return requireMemory(course, size).then(() => {
        // It may have ended meanwhile.
        requireSize(course, size);
        goOn(course, request, size);
      });
    },
    {
      description:
        'Goes on where it was paused. Takes {"by": "who", "why": "a reason", "budget": {"gpuHours": 4}, "hosts": 1, "processes": 2}, all optional; with another number of hosts or ranks also a training that is not paused.',
      validator: (request = {}) => {
        requireTexts(request);
        const size = sizeOf(course, request);
        if (course.pause === null && size === null)
          refuse(`Run ${course.run} is not paused, so there is nothing to resume.`);
        if (size !== null) requireSize(course, size);
        requireRoom(course, request.budget);
      },
    },
  );
}

function goOn(course: Course, { by, why, budget }: ResumeRequest, size: GangSize | null): void {
  course.budget = { ...course.budget, ...budget };
  if (size !== null) {
    resize(course, size);
    const what = `goes on with ${describeSize(size)}${keepsBytes(course) ? '' : ', no longer bit-exact'}`;
    course.page.decide(textOf(by, 'somebody'), what, course.pause === null ? textOf(why, '') : '');
  }
  if (course.pause === null) {
    course.scope?.cancel();
    return;
  }
  // Somebody who lets a trial go on from its rung, or beyond its part of the sweep's budget, wants it to reach its end.
  if (course.pause.kind === 'rung') course.rungs = [];
  if (course.pause.kind === 'rung' || isAtAllotment(course.pause, course.trial)) course.allotted = null;
  end(course, textOf(by, 'somebody'), textOf(why, ''));
}

function handleBudget(course: Course): void {
  setHandler(
    defineUpdate<void, [BudgetRequest]>(UPDATES.budget),
    ({ by, why, budget }) => {
      course.budget = { ...course.budget, ...budget };
      course.page.decide(textOf(by, 'somebody'), `budget ${JSON.stringify(budget)}`, textOf(why, ''));
      if (course.pause?.kind === 'budget_reached') end(course, textOf(by, 'somebody'), 'the budget allows more');
      else if (course.pause === null) course.scope?.cancel();
    },
    {
      description:
        'Another budget: {"budget": {"gpuHours": 4, "costUsd": null, "deadline": "8h"}, "by": "who"}. What is left out stays.',
      validator: (request) => {
        requireTexts(request);
        if (!course.isTraining) refuse(`Run ${course.run} is not training, so another budget would change nothing.`);
        requireRoom(course, request.budget ?? {});
      },
    },
  );
}

/** What is asked for in place of the training's size; null where nothing is. */
function sizeOf({ recipe, size }: Course, wanted: Partial<GangSize>): GangSize | null {
  if (wanted.hosts === undefined && wanted.processes === undefined) return null;
  const now = size ?? recipe;
  return { hosts: wanted.hosts ?? now?.hosts ?? 1, processes: wanted.processes ?? now?.processes ?? 1 };
}

function requireSize({ run, recipe, isTraining }: Course, size: GangSize): void {
  if (!isTraining || recipe === null)
    refuse(`Run ${run} is not training, so another number of hosts would change nothing.`);
  const problem = sizeProblem(recipe, size);
  if (problem !== null) refuse(`Run ${run} cannot go on so: ${problem}`);
}

/** Where a rank would then keep more than its GPU has. An answer that does not come refuses nothing. */
async function requireMemory({ run, inputs, recipe, size }: Course, to: GangSize): Promise<void> {
  if (inputs === null || recipe === null || !patched('check-size')) return;
  const { hosts, processes } = size ?? recipe;
  const options = { summary: `does it fit ${describeSize(to)}?` };
  const lack = await checkSize
    .executeWithOptions(options, [{ run, ...inputs, from: { hosts, processes }, to }])
    .catch((error: unknown) => {
      if (isCancellation(error)) throw error;
      return null;
    });
  if (lack !== null) refuse(`Run ${run} cannot go on so: ${lack}`);
}

function resize(course: Course, size: GangSize): void {
  course.size = size;
  course.page.update({ size });
}

/** As far as the size goes. */
function keepsBytes({ recipe, size }: Course): boolean {
  if (recipe === null || size === undefined) return true;
  const { microBatch, accumulation } = recipe;
  return isExact(recipe, [{ atStep: 0, microBatch, accumulation, ...size }]);
}

function requireRoom({ budget, run, gpuSeconds, startedMs }: Course, change: BudgetRequest['budget']): void {
  const problem = changeProblem(budget, change ?? {}, { gpuSeconds, startedMs, nowMs: Date.now() });
  if (problem !== null)
    refuse(problem.replace(/ Give more\.$/, ` Give more, such as \`anneal budget ${run} --gpu-hours <hours>\`.`));
}

function requireTexts(request: PauseRequest): void {
  if (typeof request !== 'object' || request === null)
    refuse('Send one object, such as {"by": "me", "why": "a reason"}.');
  for (const field of ['by', 'why'] as const) {
    const text: unknown = request[field];
    if (text === undefined || (typeof text === 'string' && text.length <= TEXT_MAX)) continue;
    refuse(`\`${field}\` must be a text of at most ${TEXT_MAX} characters.`);
  }
}

function textOf(given: string | undefined, otherwise: string): string {
  const text = (given ?? '').replace(/\s+/g, ' ').trim();
  return text === '' ? otherwise : text;
}

function refuse(sentence: string): never {
  throw ApplicationFailure.nonRetryable(sentence, 'bad_request');
}
