// What an hour of a GPU costs: a table that users keep. Nothing here knows a price.
import { readFile } from 'node:fs/promises';
import { parse as parseYaml, YAMLParseError } from 'yaml';
import { z } from 'zod';
import { AnnealError } from '../contracts/failure.ts';

/** Types of GPUs in a table; more are not compared by anybody. */
const GPUS_MAX = 100;

const PricesSchema = z.strictObject({
  /** When the prices were looked up: they change. */
  date: z.union([z.string(), z.date()]).transform(String),
  gpus: z
    .array(
      z.strictObject({
        /** Part of the name that the driver gives it, such as `H100`; `cpu` for hosts without. */
        name: z.string().min(1).max(64),
        /** null = not compared with what the training needs. */
        memoryGiB: z.number().gt(0).max(10_000).nullable().default(null),
        /** Of one GPU, or of a host's share for one process. */
        usdPerHour: z.number().min(0).max(10_000),
      }),
    )
    .min(1)
    .max(GPUS_MAX),
});
export interface Prices extends z.infer<typeof PricesSchema> {
  /** Nobody's own: it shows costs, and no run is charged by it. */
  isExample?: boolean;
}
export type Price = Prices['gpus'][number];

/** @throws AnnealError `bad_request` when the table cannot be read. */
export async function readPrices(path: string): Promise<Prices> {
  const wrong = (what: string) =>
    new AnnealError('bad_request', `The price table ${path} ${what}; examples/prices.yaml shows its form.`);
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw wrong(`cannot be read (${error.message})`);
  });
  try {
    return PricesSchema.parse(parseYaml(text));
  } catch (error) {
    if (error instanceof YAMLParseError) throw wrong(`is neither YAML nor JSON (${error.message.split('\n')[0]})`);
    if (error instanceof z.ZodError) throw wrong(`is wrong: ${z.prettifyError(error).replaceAll('\n', ' ')}`);
    throw error;
  }
}

/** Of an hour of one of these devices, the dearest; null when the table lacks one of them. */
export function priceOf({ gpus }: Prices, devices: string[]): number | null {
  const found = devices.map((device) => gpus.find((price) => isOf(price, device))?.usdPerHour ?? null);
  return found.reduce((a, b) => (a === null || b === null ? null : Math.max(a, b)), 0);
}

/** Whether a measurement on this device is one of this type of GPU. */
export function isOf(price: Price, device: string): boolean {
  return device.toLowerCase().includes(price.name.toLowerCase());
}
