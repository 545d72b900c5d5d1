// A sweep's own budget: what each trial may use until its next stop, and the question to people when nothing is left.
//
// A sweep without one makes the same commands as one without any of this.
import { ApplicationFailure, condition, defineUpdate, setHandler, workflowInfo } from '@temporalio/workflow';
import { type Budget, gpuSecondsMax, isBounded, reachedLimit, type Spent } from '../contracts/budget.ts';
import { UPDATES } from '../contracts/names.ts';
import type { Allotment, BudgetRequest, SweepStatus, TrialStatus } from '../contracts/status.ts';
import { watchDeadline } from './deadline.ts';
import { changeProblem } from './policies/budget-change.ts';
import { type Account, shareOf } from './policies/purse.ts';

export interface PurseOptions {
  status: SweepStatus;
  budget: Budget;
  /** Trials that are on the way to their next stop or wait for it, and so many of them go at once. */
  ahead(): number;
  /** Tells a trial that trains. */
  tell(run: string, allotment: Allotment): void;
  show(): void;
}

export interface Purse {
  /**
   * What a trial that is about to go on may use until it stops; absent where nothing limits it. Waits while too little is left, or until
   * somebody lets the trial go on by itself.
   */
  allot(trial: TrialStatus): Promise<Allotment | undefined>;
  /** The trial has stopped: what it has not used is free again. Of one that has failed it counts as used. */
  settle(trial: TrialStatus, hasFailed?: boolean): void;
  /** What people are asked, or null. */
  question(): string | null;
  close(): void;
}

export function openPurse({ status, budget: given, ahead, tell, show }: PurseOptions): Purse {
  const startedMs = workflowInfo().startTime.getTime();
  const allotted = new Map<string, number | null>();
  const asking = new Set<string>();
  let budget = given;

  const accounts = (): Account[] =>
    status.trials.map(({ run, gpuSeconds = 0 }) => ({ used: gpuSeconds, allotted: allotted.get(run) ?? null }));
  const spent = (): Spent => ({
    gpuSeconds: accounts().reduce((sum, { used }) => sum + used, 0),
    ...{ startedMs, nowMs: Date.now() },
  });
  const isLate = () => reachedLimit({ ...budget, gpuHours: null, costUsd: null }, spent()) !== null;
  /** null where too little is left. */
  const next = ({ gpuSeconds = 0 }: TrialStatus): Allotment | null => {
    if (isLate()) return null;
    const max = gpuSecondsMax(budget);
    if (max === null) return { gpuSeconds: null };
    const share = shareOf(max, accounts(), ahead() - allotted.size);
    return share === null ? null : { gpuSeconds: gpuSeconds + share };
  };
  const grant = (trial: TrialStatus, allotment: Allotment) => {
    allotted.set(trial.run, allotment.gpuSeconds);
    return allotment;
  };
  /** Anew, among those that train. Who is paused by people keeps what he has. */
  const share = () => {
    const training = status.trials.filter(({ state }) => state === 'training');
    for (const { run } of training) allotted.delete(run);
    for (const trial of training) tell(trial.run, grant(trial, next(trial) ?? { gpuSeconds: 0 }));
  };
  const atDeadline = () => watchDeadline(budget, startedMs, share);
  let deadline = atDeadline();

  setHandler(
    defineUpdate<void, [BudgetRequest]>(UPDATES.budget),
    (request) => {
      budget = { ...budget, ...request.budget };
      status.budget = budget;
      deadline.cancel();
      deadline = atDeadline();
      share();
      show();
    },
    {
      description:
        'Another budget of all trials together: {"budget": {"gpuHours": 40, "costUsd": null, "deadline": "8h"}}. What is left out stays.',
      validator: (request) => {
        const problem = changeProblem(budget, request?.budget ?? {}, spent());
        if (problem !== null) throw ApplicationFailure.nonRetryable(problem, 'bad_request');
      },
    },
  );

  return {
    async allot(trial) {
      if (!isBounded(budget)) return undefined;
      const { state } = trial;
      for (let allotment = next(trial); ; allotment = next(trial)) {
        if (allotment !== null) {
          asking.delete(trial.run);
          return grant(trial, allotment);
        }
        asking.add(trial.run);
        show();
        await condition(() => next(trial) !== null || trial.state !== state);
        if (trial.state === state) continue;
        asking.delete(trial.run);
        return undefined;
      }
    },
    settle(trial, hasFailed = false) {
      const { run, gpuSeconds = 0 } = trial;
      if (hasFailed && allotted.has(run)) trial.gpuSeconds = Math.max(gpuSeconds, allotted.get(run) ?? 0);
      allotted.delete(run);
    },
    question() {
      const waits = asking.size > 0 && !status.trials.some(({ state }) => state === 'training');
      return waits ? ask(status.sweep, budget, spent()) : null;
    },
    close: () => deadline.cancel(),
  };
}

function ask(sweep: string, budget: Budget, spent: Spent): string {
  const reached = reachedLimit(budget, spent) ?? 'What is left of `budget` is too little to go on with.';
  return `${reached} Its trials wait, saved; \`anneal budget ${sweep}\` with \`--gpu-hours\`, \`--cost-usd\` or \`--deadline\` gives more and goes on, \`anneal cancel ${sweep}\` ends it.`;
}
