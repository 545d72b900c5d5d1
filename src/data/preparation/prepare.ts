// All of preprocess up to the tokeniser in one process: what `anneal plan` and `anneal data check` do, range by range as the workers do.
import type { CleanedPiece, RangePlan, Resolution } from '../../contracts/ranges.ts';
import type { Accounts } from '../../contracts/rows.ts';
import { openAccounts } from '../accounts.ts';
import { cleanPieces } from './clean.ts';
import type { PreparationHost, PreparationInput } from './host.ts';
import { planRanges, type RangeLimits } from './plan.ts';
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
  const pieces: CleanedPiece[] = [];
  for (const range of plan.ranges) pieces.push(...(await cleanPieces(host, input, plan, range)));
  const { resolution } = await resolveRows(host, input, plan, pieces, options);
  const snapshot = await loadSnapshot(host.store, input.snapshot);
  return { plan, pieces, resolution, accounts: openAccounts(snapshot, pieces, resolution.sources) };
}
