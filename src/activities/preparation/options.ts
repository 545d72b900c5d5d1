// What preparing data needs besides the parts of every activity.
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { PreparationHost } from '../../data/preparation/host.ts';
import { type RangeLimits, rangesAtOnce } from '../../data/preparation/plan.ts';
import type { SourceContext } from '../../data/sources.ts';
import type { Parts } from '../parts.ts';
import type { StageContext } from '../stage.ts';

export interface CardLinks {
  /** Of a run's page. */
  run(run: string): string;
  /** Of a dataset's card. */
  card(dataset: string): string;
  /** Of the card of a run that a gate stopped. */
  stopped(run: string, card: string): string;
}

export interface PreparationOptions {
  sources: SourceContext;
  /** Key of pseudonyms, or null. */
  pseudonymKey: string | null;
  /** Addresses in the Web UI and at the gateway; absent where there is nobody to show them. */
  links?: CardLinks;
  /** For tests; otherwise `RANGE_LIMITS`. */
  limits?: RangeLimits;
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
