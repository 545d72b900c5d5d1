// All of preprocess up to the tokeniser in one process: what `anneal plan` and `anneal data check` do, by ranges as the workers do.
import { join } from 'node:path';
import type { CleanedPiece, RangePlan, Resolution } from '../../contracts/ranges.ts';
import type { Accounts } from '../../contracts/rows.ts';
import { inLanes } from '../../storage/in-lanes.ts';
import { openAccounts } from '../accounts.ts';
import { cleanPieces } from './clean.ts';
import type { PreparationHost, PreparationInput } from './host.ts';
import { planRanges, type RangeLimits, rangesAtOnce } from './plan.ts';
import { type ResolveOptions, resolveRows } from './resolve.ts';
import { loadSnapshot } from './snapshots.ts';

export interface Prepared {
  plan: RangePlan;
  /** Of all ranges, in order. */
  pieces: CleanedPiece[];
  resolution: Resolution;
  /** Before the tokeniser has had its say. */
  accounts: Accounts;
}

/** Tells a gate that fails in `resolution.blocked`. */
export async function prepareRows(
  host: PreparationHost,
  input: PreparationInput,
  options: ResolveOptions & { limits?: RangeLimits } = {},
): Promise<Prepared> {
  const plan = await planRanges(host, input, options.limits);
  const pieces = await cleanRanges(host, input, plan);
  const { resolution } = await resolveRows(host, input, plan, pieces, options);
  const snapshot = await loadSnapshot(host.store, input.snapshot);
  return { plan, pieces, resolution, accounts: openAccounts(snapshot, pieces, resolution.sources) };
}

async function cleanRanges(host: PreparationHost, input: PreparationInput, plan: RangePlan): Promise<CleanedPiece[]> {
  const { ranges } = plan;
  const cleaned: CleanedPiece[][] = [];
  const progress = ranges.map(() => 0);
  const report = (i: number): PreparationHost['report'] => {
    // Of a single one its own words say more.
    if (ranges.length === 1) return host.report;
    return ({ step = 0, of = 1 }) => {
      progress[i] = step / of;
      const done = progress.reduce((sum, share) => sum + share, 0) / ranges.length;
      host.report({ phase: `clean ${ranges.length} ranges, ${Math.floor(100 * done)} %` });
    };
  };
  await inLanes(ranges.entries(), rangesAtOnce(), async ([i, pieces]) => {
    const own = { ...host, folder: join(host.folder, `range-${i}`), report: report(i) };
    cleaned[i] = await cleanPieces(own, input, plan, pieces);
    progress[i] = 1;
  });
  return cleaned.flat();
}
