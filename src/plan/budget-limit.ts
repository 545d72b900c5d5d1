// What a budget in dollars allows on this host, by its worker's price table.
import { existsSync } from 'node:fs';
import { gpuSecondsMax, NO_BUDGET } from '../contracts/budget.ts';
import { AnnealError } from '../contracts/failure.ts';
import type { Recipe } from '../contracts/spec.ts';
import type { TrainLimits } from '../contracts/stages.ts';
import type { PythonConfig } from '../trainer/child.ts';
import { describeHost, gpusFor } from './host.ts';
import { priceOf, readPrices } from './prices.ts';

export interface PricedHost {
  /** The price table; it need not be there. */
  prices: string;
  python: PythonConfig;
}

/** Dollars for an hour of one GPU of this host. @throws AnnealError `bad_request` when the table does not know it. */
export async function hourPriceHere({ prices, python }: PricedHost, recipe: Recipe): Promise<number> {
  const gpus = gpusFor(await describeHost(python.environment.CUDA_VISIBLE_DEVICES), recipe).map(({ name }) => name);
  const devices = gpus.length === 0 ? ['cpu'] : gpus;
  const price = existsSync(prices) ? priceOf(await readPrices(prices), devices) : null;
  if (price !== null) return price;
  const names = [...new Set(devices)].join(' and ');
  const why = `the GPU worker’s price table ${prices} ${existsSync(prices) ? 'lacks it' : 'does not exist'}`;
  throw new AnnealError(
    'bad_request',
    `\`budget.costUsd\` needs the price of an hour of ${names}, and ${why}. Set \`budget.pricePerGpuHour\`, or say it there (\`ANNEAL_PRICES\` names another table; examples/prices.yaml shows its form).`,
  );
}

const NONE = Number.POSITIVE_INFINITY;

/** With the dollars turned into GPU seconds. */
export function priced<T extends TrainLimits>(limits: T, pricePerGpuHour: number): T {
  const { costUsdMax = null } = limits;
  const seconds = gpuSecondsMax({ ...NO_BUDGET, costUsd: costUsdMax, pricePerGpuHour });
  return { ...limits, gpuSecondsMax: Math.min(limits.gpuSecondsMax ?? NONE, seconds ?? NONE) };
}
