// Why another budget makes no sense. Pure.
import {
  type Budget,
  budgetProblem,
  NO_BUDGET,
  reachedLimit,
  type Spent,
  unpricedCostUsd,
} from '../../contracts/budget.ts';

/** A sentence about the budget with the change, or null. One that is used up already would pause what it is for at once. */
export function changeProblem(budget: Budget, change: Partial<Budget>, spent: Spent): string | null {
  const unknown = Object.keys(change).find((field) => !(field in NO_BUDGET));
  if (unknown !== undefined)
    return `\`budget\` has no field \`${unknown}\`; it has ${Object.keys(NO_BUDGET).join(', ')}.`;
  const wanted = { ...budget, ...change };
  const problem = budgetProblem(wanted);
  if (problem !== null)
    return `\`budget.${problem.field}\` ${problem.message}, got ${JSON.stringify(wanted[problem.field])}.`;
  // Whether a price table knows the GPU shows when the training begins, which would then end the run.
  if (unpricedCostUsd(wanted) !== null && budget.costUsd === null)
    return '`budget.pricePerGpuHour` must be given with `costUsd`: dollars for an hour of one GPU.';
  const reached = reachedLimit(wanted, spent);
  return reached && `${reached} Give more.`;
}
