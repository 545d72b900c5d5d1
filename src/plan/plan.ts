// What a run will do, need, take and cost, before any of it: facts in, plan out. Pure; nothing here is invented: unknown is null.
import { type Budget, deadlineAtMs, isBounded, unpricedCostUsd } from '../contracts/budget.ts';
import { type Problem, problemIf } from '../contracts/failure.ts';
import type { Recipe, Spec } from '../contracts/spec.ts';
import type { ProbeResult } from '../contracts/trainer-protocol.ts';
import type { StrategyChoice } from '../trainer/strategy.ts';
import type { PlannedData } from './data.ts';
import { gpusFor, type Host } from './host.ts';
import { type MemoryQuestion, predictMemory, totalOf } from './memory.ts';
import {
  checkMemory,
  describeLack,
  describeRemedies,
  judge,
  type MemoryCheck,
  type MemoryVerdict,
  questionOf,
  strategyFor,
} from './memory-check.ts';
import type { ModelShape } from './model-shape.ts';
import { countParameters, hasExperts, type ParameterCount } from './parameters.ts';
import { isOf, type Price, type Prices, priceOf } from './prices.ts';
import { speedOf } from './probe.ts';
import type { Speed } from './speed.ts';
import { planSteps, type StepPlan } from './steps.ts';
import { targetProblems } from './targets.ts';

export interface PlanFacts {
  spec: Spec;
  /** null where a problem says why. */
  shape: ModelShape | null;
  data: PlannedData | null;
  host: Host;
  /** null = not measured. */
  probe: ProbeResult | null;
  prices: Prices | null;
  speeds: Speed[];
  /** What was estimated of the data, and what was left out. */
  notes: string[];
  /** What was found before. */
  problems: Problem[];
  nowMs: number;
}

export interface Plan {
  name: string;
  base: string;
  method: Recipe['method'];
  tuning: Recipe['tuning'];
  data: DataPlan | null;
  /** What was estimated of the data, and what was left out; one sentence each. */
  notes: string[];
  steps: StepPlan | null;
  parameters: ParameterCount | null;
  strategy: StrategyChoice | null;
  memory: MemoryCheck | null;
  time: TimePlan | null;
  costs: Cost[];
  /** When the prices were looked up. */
  pricesOf: string | null;
  /** Empty = the run can be started. */
  problems: Problem[];
}

export interface DataPlan {
  rowsIn: number;
  kept: number;
  duplicates: number;
  dropped: Record<string, number>;
  splits: PlannedData['splits'];
  /** All data ÷ what was read; the numbers are multiplied by it. 1 = all was read; null = nobody knows, and the numbers are the sample's. */
  factor: number | null;
}

export interface TimePlan {
  tokensPerSecond: number;
  seconds: number;
  /** GPU hours, or hours of a host's processes. */
  gpuHours: number;
  /** Where the speed is from: a run, or the probe. */
  from: string;
  device: string;
}

export interface Cost {
  gpu: string;
  count: number;
  usdPerHour: number;
  /** Whether the training fits into its memory, by arithmetic. */
  fits: MemoryVerdict | null;
  /** null = nothing like this has been measured on one. */
  seconds: number | null;
  usd: number | null;
}

export function makePlan(facts: PlanFacts): Plan {
  const { spec, shape, data, host, prices } = facts;
  const recipe = spec.train;
  const tokens = data?.splits.train;
  const steps = data && planSteps(recipe, data);
  const question = shape && tokens ? questionOf(shape, recipe, tokens, host) : null;
  const memory = question && checkMemory(question, host, facts.probe);
  const time = steps && planTime(facts, steps);
  const costs = prices === null ? [] : prices.gpus.map((price) => costOn(price, facts, { steps, time, question }));
  const isKnownHost = host.isStandIn !== true;
  const problems = [
    ...facts.problems,
    ...(shape ? targetProblems(shape, recipe) : []),
    ...(isKnownHost ? gpuProblems(host, recipe) : []),
    ...(isKnownHost && memory ? memoryProblems(memory, recipe) : []),
    ...(isKnownHost ? priceProblems(spec, host, prices) : []),
    ...(time ? runBudgetProblems(time, facts) : []),
  ];
  return {
    ...{ name: spec.name, base: spec.model.base, method: recipe.method, tuning: recipe.tuning },
    ...{
      data: data && planData(data),
      notes: [...facts.notes, ...expertNotes(shape, recipe), ...hostNotes(host, memory), ...budgetNotes(spec, time)],
      steps,
      parameters: shape && countParameters(shape, recipe),
    },
    ...{ strategy: shape && strategyFor(shape, recipe, host), memory, time },
    ...{ costs, pricesOf: prices?.date ?? null, problems },
  };
}

function planData({ accounts, splits, factor }: PlannedData): DataPlan {
  const scaled = (n: number) => Math.round(n * (factor ?? 1));
  const dropped = Object.entries(accounts.dropped).map(([code, n]) => [code, scaled(n)] as const);
  const scaledSplits = Object.entries(splits).map(([name, split]) => {
    const { rows, tokens, trainableTokens } = split;
    const counts = { rows: scaled(rows), tokens: scaled(tokens), trainableTokens: scaled(trainableTokens) };
    return [name, { ...split, ...counts }] as const;
  });
  return {
    ...{ rowsIn: scaled(accounts.rowsIn), kept: scaled(accounts.kept), duplicates: scaled(accounts.duplicates) },
    ...{ dropped: Object.fromEntries(dropped), splits: Object.fromEntries(scaledSplits), factor },
  };
}

/** On this host. */
function planTime({ spec, host, speeds, probe }: PlanFacts, steps: StepPlan): TimePlan | null {
  const { processes, hosts } = spec.train;
  const device = gpusFor(host, spec.train)[0]?.name ?? 'cpu';
  const seen = speeds.find((speed) => speed.device === device);
  const measured = probe && speedOf(probe);
  const tokensPerSecond = seen?.tokensPerSecond ?? (measured === null ? null : measured * processes * hosts);
  if (tokensPerSecond === null) return null;
  const seconds = steps.tokens / tokensPerSecond;
  const from = seen === undefined ? 'two short steps' : `run ${seen.run}`;
  return { tokensPerSecond, seconds, gpuHours: (seconds * processes * hosts) / 3600, from, device };
}

function costOn(
  price: Price,
  { spec, speeds }: PlanFacts,
  { steps, time, question }: { steps: StepPlan | null; time: TimePlan | null; question: MemoryQuestion | null },
): Cost {
  const count = spec.train.processes * spec.train.hosts;
  const speed = speeds.find(({ device }) => isOf(price, device));
  const elsewhere = speed && steps ? steps.tokens / speed.tokensPerSecond : null;
  // This host's time may be known from the probe alone.
  const seconds = time && isOf(price, time.device) ? time.seconds : elsewhere;
  const bytes = question && totalOf(predictMemory({ ...question, device: 'gpu' }));
  return {
    ...{ gpu: price.name, count, usdPerHour: price.usdPerHour, seconds },
    fits: bytes === null || price.memoryGiB === null ? null : judge(bytes, price.memoryGiB * 1024 ** 3),
    usd: seconds === null ? null : (seconds / 3600) * count * price.usdPerHour,
  };
}

function expertNotes(shape: ModelShape | null, { tuning, lora }: Recipe): string[] {
  if (shape === null || !hasExperts(shape)) return [];
  const notes = [
    tuning !== 'full' && !lora.experts
      ? 'The adapter leaves the experts as they are; `train.lora.experts: true` adapts them, too.'
      : null,
    tuning === 'qlora' ? 'The experts are not quantised.' : null,
  ];
  return notes.filter((note) => note !== null);
}

function hostNotes({ isStandIn = false }: Host, memory: MemoryCheck | null): string[] {
  if (!isStandIn || memory === null) return [];
  return ['No host of the pool tells its memory: it is compared with this machine’s, which decides nothing.'];
}

function budgetNotes({ budget }: Spec, time: TimePlan | null): string[] {
  if (!isBounded(budget) || time !== null) return [];
  return ['Whether the budget is enough is not known: nothing tells yet how long this takes.'];
}

function gpuProblems({ gpus, name }: Host, { device, processes }: Recipe): Problem[] {
  // The pool’s own sentence is about the largest of its hosts.
  if (name !== undefined) return [];
  const has = gpus.length === 1 ? '1 GPU' : `${gpus.length} GPUs`;
  const message = `must be at most ${gpus.length}, because this host has ${has}, got ${processes}; or set \`train.device: cpu\``;
  return problemIf(device !== 'cpu' && gpus.length > 0 && processes > gpus.length, 'train.processes', message);
}

/** `train.probe: off` tries it all the same. */
function memoryProblems(memory: MemoryCheck, recipe: Recipe): Problem[] {
  const message = `is too large. ${describeLack(memory, recipe)} ${describeRemedies(memory)}`;
  return problemIf(memory.verdict === 'too_large' && recipe.probe !== 'off', 'train.microBatch', message);
}

/** The training would end where it begins. */
function priceProblems({ budget, train }: Spec, host: Host, prices: Prices | null): Problem[] {
  const device = gpusFor(host, train)[0]?.name ?? 'cpu';
  const isKnown = prices !== null && !prices.isExample && priceOf(prices, [device]) !== null;
  const needs = unpricedCostUsd(budget) !== null && !isKnown;
  const where = 'set `budget.pricePerGpuHour`, or keep a price table of your own, as `ANNEAL_PRICES` names it';
  return problemIf(needs, 'budget.costUsd', `needs the price of an hour of ${device}; ${where}`);
}

function runBudgetProblems({ gpuHours, seconds, device }: TimePlan, { spec, prices, nowMs }: PlanFacts): Problem[] {
  const { budget } = spec;
  const pricePerGpuHour = budget.pricePerGpuHour ?? (prices && priceOf(prices, [device])) ?? 0;
  return budgetProblems(budget, { gpuHours, seconds, pricePerGpuHour }, nowMs, 'lower `train.epochs`');
}

export interface Expected {
  gpuHours: number;
  seconds: number;
  /** 0 = nobody knows. */
  pricePerGpuHour: number;
}

/** @param or what to do instead of giving more. */
export function budgetProblems(budget: Budget, expected: Expected, nowMs: number, or: string): Problem[] {
  const { gpuHours, seconds, pricePerGpuHour } = expected;
  const { costUsd, deadline } = budget;
  const cost = gpuHours * pricePerGpuHour;
  const endsMs = (deadline && deadlineAtMs(deadline, nowMs)) || Number.POSITIVE_INFINITY;
  const atLeast = (planned: string, got: unknown) => `must be at least ${planned}, got ${got}; raise it, or ${or}`;
  return [
    ...problemIf(
      gpuHours > (budget.gpuHours ?? Number.POSITIVE_INFINITY),
      'budget.gpuHours',
      atLeast(`the planned ${roundedUp(gpuHours)}`, budget.gpuHours),
    ),
    ...problemIf(
      cost > (costUsd ?? Number.POSITIVE_INFINITY),
      'budget.costUsd',
      atLeast(`the planned cost ${roundedUp(cost)}`, costUsd),
    ),
    ...problemIf(
      nowMs + seconds * 1000 > endsMs,
      'budget.deadline',
      atLeast(`${Math.ceil(seconds / 60)} min from now`, deadline),
    ),
  ];
}

/** To two digits, or two decimals: whoever gives so much has enough. */
function roundedUp(amount: number): string {
  const decimals = amount >= 1 ? 2 : 1 - Math.floor(Math.log10(Math.max(amount, 1e-9)));
  return (Math.ceil(amount * 10 ** decimals) / 10 ** decimals).toFixed(decimals);
}
