// A sweep as a user writes it: one spec, and what its trials change of it. Trials are compared at rungs by successive halving
// (Jamieson and Talwalkar 2016): each rung keeps the best share of them, the last one keeps one.
import { z } from 'zod';
import type { Budget } from './budget.ts';
import { AnnealError, type Problem } from './failure.ts';
import { pathOf, wordsWithValue } from './issue-words.ts';
import { partsOf, setPath } from './paths.ts';
import { BudgetSchema, NameSchema, parseSpec, type Spec } from './spec.ts';

/** Other fields do not decide the training; the sources are the same for all trials. */
const FIELD = /^(train|data)\.(?!sources)/;
/** A workflow's history holds the events of all its trials; more of them are no longer readable on a page either. */
const TRIALS_MAX = 64;

/** Field of the spec, such as `train.learningRate`, and its value. */
const ChangesSchema = z.record(z.string(), z.unknown());
export type Changes = z.infer<typeof ChangesSchema>;

const FieldsSchema = z.strictObject({
  name: NameSchema,
  /** As for `anneal run`. */
  spec: z.record(z.string(), z.unknown()),
  /** Every combination of the values is a trial. */
  grid: z.record(z.string(), z.array(z.unknown()).min(1).max(TRIALS_MAX)).optional(),
  /** Each is a trial. */
  trials: z.array(ChangesSchema).min(1).max(TRIALS_MAX).optional(),
  /** Shares of the steps at which the trials are compared; 1 = when their training is done. */
  rungs: z.array(z.number().gt(0).max(1)).min(1).max(8).default([0.25, 0.5]),
  /** Share of the trials that a rung lets go on, at least one. */
  keep: z.number().gt(0).lt(1).default(0.5),
  /** Smallest wins. */
  metric: z.literal('evalLoss').default('evalLoss'),
  /** Trials that train at once; more wait their turn. */
  concurrent: z.int().min(1).max(TRIALS_MAX).default(2),
  /** Of all trials together, besides what the spec gives each; a deadline's duration counts from the sweep's start. */
  budget: BudgetSchema.prefault({}),
});

const SweepSchema = FieldsSchema.superRefine(({ grid, trials, rungs, budget }, context) => {
  const refuse = (path: string, message: string) =>
    context.addIssue({ code: 'custom', path: path.split('.'), message });
  if ((grid === undefined) === (trials === undefined)) refuse('grid', 'or `trials` must be given, one of the two');
  if (rungs.some((rung, i) => rung <= (rungs[i - 1] ?? 0))) refuse('rungs', 'must ascend');
  // Trials may train on hosts of several prices.
  if (budget.costUsd !== null && budget.pricePerGpuHour === null)
    refuse('budget.pricePerGpuHour', 'must be given with `budget.costUsd` of a sweep, whose trials may have several');
});
export type SweepInput = z.input<typeof SweepSchema>;

export interface SweepPlan {
  name: string;
  rungs: number[];
  keep: number;
  concurrent: number;
  budget: Budget;
  /** The first trial's, whole: all trials share its sources. */
  spec: Spec;
  trials: Changes[];
}

/** @throws AnnealError `bad_request` with every problem of the sweep and of its trials. */
export function parseSweep(input: unknown): SweepPlan {
  const parsed = SweepSchema.safeParse(input);
  if (!parsed.success) throw refusal(parsed.error.issues.map((issue) => problemOf(issue, input)));
  const { name, rungs, keep, concurrent, budget, spec, grid } = parsed.data;
  const trials = parsed.data.trials ?? combine(grid ?? {});
  const problems = [...aboutTrials(trials), ...(trials.length <= TRIALS_MAX ? aboutSpecs(spec, trials) : [])];
  if (problems.length > 0) throw refusal(problems);
  return { name, rungs, keep, concurrent, budget, trials, spec: parseSpec(applyChanges(spec, trials[0] ?? {})) };
}

export function applyChanges(spec: unknown, changes: Changes): unknown {
  return Object.entries(changes).reduce((made, [path, value]) => setPath(made, partsOf(path), value), spec);
}

/** `train.learningRate=0.001, train.lora.rank=8`. */
export function describeChanges(changes: Changes): string {
  const told = Object.entries(changes).map(([path, value]) => `${path}=${JSON.stringify(value)}`);
  return told.length === 0 ? 'as the spec' : told.join(', ');
}

function combine(grid: Record<string, unknown[]>): Changes[] {
  return Object.entries(grid).reduce<Changes[]>(
    (made, [path, values]) =>
      made.flatMap((one) => values.map((value) => ({ ...one, [path]: value }))).slice(0, TRIALS_MAX + 1),
    [{}],
  );
}

function aboutTrials(trials: Changes[]): Problem[] {
  const problems: Problem[] = [];
  if (trials.length > TRIALS_MAX) problems.push({ path: 'grid', message: `must make at most ${TRIALS_MAX} trials` });
  for (const path of new Set(trials.flatMap(Object.keys).filter((field) => !FIELD.test(field))))
    problems.push({ path, message: 'cannot be tried: only fields under `train.` and `data.` can, sources excepted' });
  const told = trials.map(describeChanges);
  const twice = told.find((one, i) => told.indexOf(one) !== i);
  if (twice !== undefined) problems.push({ path: 'trials', message: `must differ, got ${twice} twice` });
  return problems;
}

/** Problems that every trial has are told once. */
function aboutSpecs(spec: Record<string, unknown>, trials: Changes[]): Problem[] {
  const found = new Map<string, Problem>();
  for (const trial of trials) {
    for (const { path, message } of problemsOf(applyChanges(spec, trial))) {
      const problem = { path: `spec.${path}`, message };
      found.set(JSON.stringify(problem), problem);
    }
  }
  return [...found.values()];
}

function problemsOf(input: unknown): Problem[] {
  try {
    const { data, until } = parseSpec(input);
    if (until === 'ingest' || until === 'preprocess') return [{ path: 'until', message: 'must be `train` or later' }];
    const followed = data.sources.findIndex(({ follow }) => follow && follow.mode === 'new');
    if (followed >= 0)
      return [
        { path: `data.sources[${followed}].follow`, message: 'must be of mode `all`: what is new is given to one run' },
      ];
    if (data.split.validation === 0)
      return [
        { path: 'data.split.validation', message: 'must be above 0: trials are compared by their validation loss' },
      ];
    return [];
  } catch (error) {
    if (error instanceof AnnealError) return error.problems;
    throw error;
  }
}

function problemOf(issue: z.core.$ZodIssue, input: unknown): Problem {
  return { path: pathOf(issue.path), message: wordsWithValue(issue, input) };
}

function refusal(problems: Problem[]): AnnealError {
  const lines = problems.map((p) => `\`${p.path || 'sweep'}\` ${p.message}`);
  const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`;
  return new AnnealError('bad_request', `The sweep has ${count}: ${lines.join('; ')}.`, { problems });
}

/** Run id of a trial, counted from 0. */
export function trialRun(sweep: string, trial: number): string {
  return `${sweep}-${String(trial + 1).padStart(2, '0')}`;
}
