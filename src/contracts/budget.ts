// Budgets of a training: what they allow, and when a new one makes no sense.
// Nothing here imports anything, so that workflows may use the values.

export interface Budget {
  gpuHours: number | null;
  costUsd: number | null;
  pricePerGpuHour: number | null;
  deadline: string | null;
}

export const NO_BUDGET: Budget = { gpuHours: null, costUsd: null, pricePerGpuHour: null, deadline: null };

/** Who pauses a run at a limit of its budget. */
export const BY_BUDGET = 'the budget';

/** `90 min`, `8h`, `2.5d`. */
const DURATION = /^(\d+(?:\.\d+)?) ?(min|h|d)$/;
const ISO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)$/;
const UNIT_MS: Record<string, number> = { min: 60_000, h: 3_600_000, d: 86_400_000 };

const DEADLINE_HELP = 'must be a time such as 2027-01-31T18:00:00Z, or a duration such as 90 min, 8h or 2d';

/** ms since the epoch; null when it is neither a time nor a duration. A duration counts from `startedMs`. */
export function deadlineAtMs(deadline: string, startedMs: number): number | null {
  const [, count, unit] = DURATION.exec(deadline) ?? [];
  if (count !== undefined && unit !== undefined) return startedMs + Number(count) * (UNIT_MS[unit] as number);
  const atMs = ISO_TIME.test(deadline) ? Date.parse(deadline) : Number.NaN;
  return Number.isNaN(atMs) ? null : atMs;
}

/** GPU seconds that hours and cost allow, the smaller of both; null = no limit. A cost without a price says nothing yet. */
export function gpuSecondsMax({ gpuHours, costUsd, pricePerGpuHour }: Budget): number | null {
  const hours = [
    ...(gpuHours === null ? [] : [gpuHours]),
    ...(costUsd === null || pricePerGpuHour === null ? [] : [costUsd / pricePerGpuHour]),
  ];
  return hours.length === 0 ? null : Math.min(...hours) * 3600;
}

/** What is wrong with a budget by itself: the field and what it must be, or null. */
export function budgetProblem(budget: Budget): { field: keyof Budget; message: string } | null {
  for (const field of ['gpuHours', 'costUsd', 'pricePerGpuHour'] as const) {
    const value: unknown = budget[field];
    if (value === null || (typeof value === 'number' && Number.isFinite(value) && value > 0)) continue;
    return { field, message: 'must be a number above 0' };
  }
  const message = deadlineProblem(budget.deadline);
  return message === null ? null : { field: 'deadline', message };
}

/** What a deadline must be, or null. */
export function deadlineProblem(deadline: unknown): string | null {
  if (deadline === null || (typeof deadline === 'string' && deadlineAtMs(deadline, 0) !== null)) return null;
  return DEADLINE_HELP;
}

/** Whether anything limits it. */
export function isBounded({ gpuHours, costUsd, deadline }: Budget): boolean {
  return [gpuHours, costUsd, deadline].some((limit) => limit !== null);
}

/** What the price table of a GPU worker must still turn into hours; null = nothing. */
export function unpricedCostUsd({ costUsd, pricePerGpuHour }: Budget): number | null {
  return pricePerGpuHour === null ? costUsd : null;
}

export interface Spent {
  gpuSeconds: number;
  nowMs: number;
  /** When the workflow began, which durations count from. */
  startedMs: number;
}

/** Which limit is reached, as a sentence; null when none is. */
export function reachedLimit(budget: Budget, { gpuSeconds, nowMs, startedMs }: Spent): string | null {
  const { deadline, pricePerGpuHour, costUsd, gpuHours } = budget;
  const used = `is used up: ${formatHours(gpuSeconds / 3600)} GPU hours`;
  const isOver = (part: Partial<Budget>) => gpuSeconds >= (gpuSecondsMax({ ...NO_BUDGET, ...part }) ?? Infinity);
  if (isOver({ gpuHours })) return `\`budget.gpuHours\` of ${gpuHours} ${used}.`;
  if (isOver({ costUsd, pricePerGpuHour })) return `\`budget.costUsd\` of ${costUsd} ${used} at ${pricePerGpuHour}.`;
  const atMs = deadline === null ? null : deadlineAtMs(deadline, startedMs);
  if (atMs !== null && nowMs >= atMs) return `\`budget.deadline\` ${new Date(atMs).toISOString()} has passed.`;
  return null;
}

/** `0.42 GPU hours used of 2; deadline 2027-01-31T18:00:00Z`. */
export function describeSpent({ gpuHours, costUsd, pricePerGpuHour, deadline }: Budget, gpuSeconds: number): string {
  const hours = gpuSeconds / 3600;
  const limits = [
    gpuHours === null ? null : `of ${gpuHours} GPU hours ${formatHours(hours)} are used`,
    costUsd === null || pricePerGpuHour === null
      ? null
      : `of ${costUsd} dollars ${(hours * pricePerGpuHour).toFixed(2)} are spent`,
    deadline === null ? null : `deadline ${deadline}`,
  ];
  return limits.filter((limit) => limit !== null).join(', ');
}

function formatHours(hours: number): string {
  return hours < 0.1 ? hours.toPrecision(2) : hours.toFixed(2);
}
