// A worker of `bench preprocess`: a process that plans, cleans ranges and resolves as a data worker does, without the server.
import { join } from 'node:path';
import type { CleanedPiece, Piece, RangePlan, Resolution } from '../src/contracts/ranges.ts';
import { cleanPieces } from '../src/data/preparation/clean.ts';
import type { PreparationHost, PreparationInput } from '../src/data/preparation/host.ts';
import { planRanges, type RangeLimits } from '../src/data/preparation/plan.ts';
import { resolveRows } from '../src/data/preparation/resolve.ts';
import { createFileStore } from '../src/storage/file-store.ts';

export type Order =
  | { step: 'plan'; input: PreparationInput; limits: RangeLimits | null }
  | { step: 'clean'; input: PreparationInput; plan: RangePlan; pieces: Piece[] }
  | { step: 'resolve'; input: PreparationInput; plan: RangePlan; pieces: CleanedPiece[] };

export interface Usage {
  cpuSeconds: number;
  peakBytes: number;
}

export type Answer = { usage: Usage } & (
  | { plan: RangePlan }
  | { pieces: CleanedPiece[] }
  | { resolution: Resolution }
  | { error: string }
);

/** Sent in the middle of a range. */
export interface Busy {
  busy: true;
}

const [store = '', folder = ''] = process.argv.slice(2);
const host: PreparationHost = {
  store: createFileStore(store),
  folder,
  sources: { examplesFolder: join(folder, 'examples'), readS3: async () => null },
  pseudonymKey: null,
  signal: new AbortController().signal,
  report: ({ step = 0 }) => {
    if (step > 0) process.send?.({ busy: true } satisfies Busy);
  },
};

async function follow(order: Order) {
  switch (order.step) {
    case 'plan':
      return { plan: await planRanges(host, order.input, order.limits ?? undefined) };
    case 'clean':
      return { pieces: await cleanPieces(host, order.input, order.plan, order.pieces) };
    case 'resolve':
      return { resolution: (await resolveRows(host, order.input, order.plan, order.pieces)).resolution };
    default:
      return order satisfies never;
  }
}

function usage(): Usage {
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
  return { cpuSeconds: (userCPUTime + systemCPUTime) / 1e6, peakBytes: maxRSS * 1024 };
}

process.on('message', async (order: Order) => {
  const answer = await follow(order).catch((error: Error) => ({ error: error.stack ?? error.message }));
  process.send?.({ usage: usage(), ...answer } satisfies Answer);
});
process.on('disconnect', () => process.exit());
