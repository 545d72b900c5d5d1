// What preparing data needs besides the parts of every activity.
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { PreparationHost } from '../../data/preparation/host.ts';
import type { RangeLimits } from '../../data/preparation/plan.ts';
import type { SourceContext } from '../../data/sources.ts';
import type { Parts } from '../parts.ts';
import type { StageContext } from '../stage.ts';

export interface PreparationOptions {
  sources: SourceContext;
  /** Key of pseudonyms, or null. */
  pseudonymKey: string | null;
  /** Addresses of a run's page in the Web UI and of a dataset's card; absent where there is nobody to show them. */
  links?: { run: (run: string) => string; card: (dataset: string) => string };
  /** For tests; otherwise `RANGE_LIMITS`. */
  limits?: RangeLimits;
}

/** Ranges that one worker prepares at once: each has a thread, or a tokeniser with its share of the cores. */
export function rangesAtOnce(): number {
  return Math.max(2, Math.floor(availableParallelism() / 2));
}

/** Processes of one range's tokeniser when there are so many ranges. */
export function processesFor(ranges: number): number {
  return Math.max(1, Math.floor(availableParallelism() / Math.min(ranges, rangesAtOnce())));
}

/** Each step of a run has a folder of its own, because one worker takes several at once. */
export function workFolder(parts: Parts, run: string, step: string): string {
  return join(parts.state, 'data', run, step);
}

export function hostOf(
  parts: Parts,
  { sources, pseudonymKey }: PreparationOptions,
  { signal, report }: StageContext,
  folder: string,
): PreparationHost {
  return { store: parts.store, folder, sources, pseudonymKey, signal, report };
}
