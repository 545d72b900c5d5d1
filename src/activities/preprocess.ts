// Stage `preprocess`: cleans, splits and tokenises the snapshot into a dataset, with accounts that add up, range by range, so that several
// workers share the work and a dead one costs a range. Everything that can be wrong with the data is found here, before a GPU is touched.

import { rm } from 'node:fs/promises';
import { AnnealError } from '../contracts/failure.ts';
import { plural } from '../contracts/plural.ts';
import {
  type CleanedPiece,
  CleanedRangeRecordSchema,
  type Preparation,
  PreparationSchema,
  type Resolution,
  ResolutionSchema,
  TokenisedRangeSchema,
} from '../contracts/ranges.ts';
import type { Dataset } from '../contracts/records.ts';
import { parseSpec } from '../contracts/spec.ts';
import type {
  CleanRangeResult,
  FinishDatasetInput,
  PlanRangesResult,
  PreprocessInput,
  PreprocessResult,
  RangeInput,
  ResolveRowsInput,
  ResolveRowsResult,
  TokeniseRangeInput,
  TokeniseRangeResult,
} from '../contracts/stages.ts';
import { openAccounts } from '../data/accounts.ts';
import { cleanPieces } from '../data/preparation/clean.ts';
import { planRanges } from '../data/preparation/plan.ts';
import { prepareRows } from '../data/preparation/prepare.ts';
import { resolveRows } from '../data/preparation/resolve.ts';
import { loadSnapshot } from '../data/preparation/snapshots.ts';
import { digestOf } from '../storage/digest.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { createJson } from '../storage/record.ts';
import type { Parts } from './parts.ts';
import { finishDataset } from './preparation/finish-dataset.ts';
import { hostOf, type PreparationOptions, workFolder } from './preparation/options.ts';
import { digestOfInput, findPrepared, noteForRun, rememberPrepared, summarise } from './preparation/remembered.ts';
import { refuseData } from './preparation/stopped.ts';
import { tokeniseRange } from './preparation/tokenise-range.ts';
import { readRecord, runStage, type StageContext } from './stage.ts';

export function createPreprocessActivities(parts: Parts, options: PreparationOptions) {
  const { store } = parts;

  return {
    async planRanges({ run, spec, snapshot, suites }: PreprocessInput): Promise<PlanRangesResult> {
      return await runStage('preprocess', async (context) => {
        const host = hostOf(parts, options, context, workFolder(parts, run, 'plan'));
        const plan = await planRanges(
          host,
          { spec, snapshot, ...(suites !== undefined && { suites }) },
          options.limits,
        );
        const preparation = digestOf({ spec, plan });
        await createJson(store, keys.rangePlan(preparation), { spec, plan });
        const input = await digestOfInput(parts, spec, plan, options.pseudonymKey);
        const earlier = await findPrepared(store, run, input);
        const done = earlier === null ? null : reused(options, await noteForRun(store, run, input, earlier));
        const ranges = plan.ranges.length;
        const outcome = done === null ? plural(ranges, 'range') : 'was prepared before';
        return { preparation, ranges, done, outcome };
      });
    },

    async cleanRange({ run, preparation, range }: RangeInput): Promise<CleanRangeResult> {
      return await inRange(run, preparation, `clean-${range}`, async ({ spec, plan }, folder, context) => {
        const input = { spec, snapshot: plan.snapshot };
        const host = hostOf(parts, options, inRangeOf(context, range, plan.ranges.length), folder);
        const pieces = await cleanPieces(host, input, plan, plan.ranges[range] ?? []);
        const cleaned = digestOf({ pieces });
        await createJson(store, keys.cleanedRange(cleaned), { pieces });
        const rows = pieces.reduce((sum, { counts }) => sum + counts.rowsIn, 0);
        return { cleaned, outcome: `${rows} rows in` };
      });
    },

    async resolveRows({ run, preparation, cleaned }: ResolveRowsInput): Promise<ResolveRowsResult> {
      return await inRange(run, preparation, 'resolve', async ({ spec, plan }, folder, context) => {
        const host = hostOf(parts, options, context, folder);
        await createJson(store, keys.runRanges(run, digestOf({ preparation, cleaned })), { preparation, cleaned });
        const pieces = (await readCleaned(store, cleaned)).flat();
        const { key, resolution } = await resolveRows(host, { spec, snapshot: plan.snapshot }, plan, pieces);
        if (resolution.blocked !== null) {
          const snapshot = await loadSnapshot(store, plan.snapshot);
          const accounts = openAccounts(snapshot, pieces, resolution.sources);
          throw await refuseData(store, { run, spec, snapshot, pieces, resolution, accounts }, options.links);
        }
        return { resolution: key, outcome: 'the gates let it pass' };
      });
    },

    async tokeniseRange({ run, preparation, range, ...refs }: TokeniseRangeInput): Promise<TokeniseRangeResult> {
      return await inRange(run, preparation, `tokenise-${range}`, async ({ spec, plan }, folder, context) => {
        const resolution = await readRecord(store, refs.resolution, ResolutionSchema);
        const [pieces = []] = await readCleaned(store, [refs.cleaned]);
        const input = { spec, snapshot: plan.snapshot, resolution, range, pieces, folder };
        const { key, tokenised } = await tokeniseRange(parts, input, inRangeOf(context, range, plan.ranges.length));
        return { tokenised: key, outcome: `${tokenised.tokens.splits.train?.tokens ?? 0} tokens to train on` };
      });
    },

    async finishDataset({
      run,
      preparation,
      cleaned,
      startedMs,
      ...refs
    }: FinishDatasetInput): Promise<PreprocessResult> {
      return await inRange(run, preparation, 'finish', async ({ spec, plan }, folder, context) => {
        const resolution = await readRecord(store, refs.resolution, ResolutionSchema);
        const pieces = await readCleaned(store, cleaned);
        const tokenised = await inOrder(refs.tokenised, (key) => readRecord(store, key, TokenisedRangeSchema));
        const { links } = options;
        const secondsSoFar = () => (startedMs === undefined ? null : Math.max(0, Date.now() - startedMs) / 1000);
        const ranges = {
          ...{ run, spec, snapshot: plan.snapshot, resolution, pieces, tokenised, links, folder },
          seconds: secondsSoFar(),
        };
        const made = await finishDataset(parts, ranges, context);
        const input = await digestOfInput(parts, spec, plan, options.pseudonymKey);
        const dataset = await rememberPrepared(store, { run, input, spec, resolution }, made);
        // With what was left of ranges that a dead worker of this host held.
        await rm(workFolder(parts, run, ''), { recursive: true, force: true });
        const seconds = secondsSoFar();
        return { ...summarise(options, dataset), ...(seconds !== null && { seconds }) };
      });
    },

    /** The stage in one piece, for runs that began before there were ranges. */
    async preprocess(input: PreprocessInput): Promise<PreprocessResult> {
      return await runStage('preprocess', async (context) => {
        const { run, snapshot } = input;
        // A spec of before lacks the fields that have come since.
        const spec = parseSpec(input.spec);
        return summarise(options, await prepareWhole(parts, options, { run, spec, snapshot }, context));
      });
    },
  };

  /** A step in a folder of its own, which does not outlive it. */
  async function inRange<T>(
    run: string,
    preparation: string,
    step: string,
    work: (preparation: Preparation, folder: string, context: StageContext) => Promise<T>,
  ): Promise<T> {
    return await runStage('preprocess', async (context) => {
      const folder = workFolder(parts, run, step);
      try {
        const record = await readRecord(store, keys.rangePlan(preparation), PreparationSchema);
        return await work(record, folder, context);
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    });
  }
}

async function prepareWhole(
  parts: Parts,
  options: PreparationOptions,
  { run, spec, snapshot }: PreprocessInput,
  context: StageContext,
): Promise<Dataset> {
  const plan = await planRanges(hostOf(parts, options, context, workFolder(parts, run, 'whole')), { spec, snapshot });
  const input = await digestOfInput(parts, spec, plan, options.pseudonymKey);
  const earlier = await findPrepared(parts.store, run, input);
  if (earlier !== null) return await noteForRun(parts.store, run, input, earlier);
  const { dataset, resolution } = await makeDataset(parts, options, { run, spec, snapshot }, context);
  return await rememberPrepared(parts.store, { run, input, spec, resolution }, dataset);
}

/** The whole stage in one process but for its records; also what `anneal plan` counts with. */
export async function makeDataset(
  parts: Parts,
  options: PreparationOptions,
  { run, spec, snapshot }: PreprocessInput,
  context: StageContext,
): Promise<{ dataset: Dataset; resolution: Resolution }> {
  const folder = workFolder(parts, run, 'whole');
  try {
    const host = hostOf(parts, options, context, folder);
    const { plan, pieces, resolution } = await prepareRows(host, { spec, snapshot }, options);
    requirePassed(resolution);
    const byRange = plan.ranges.map((range, i) => {
      const before = plan.ranges.slice(0, i).reduce((sum, { length }) => sum + length, 0);
      return pieces.slice(before, before + range.length);
    });
    const shared = { spec, snapshot, resolution, folder };
    const tokenised = await inOrder(
      byRange,
      async (own, range) => (await tokeniseRange(parts, { ...shared, range, pieces: own }, context)).tokenised,
    );
    const dataset = await finishDataset(
      parts,
      { ...shared, run, pieces: byRange, tokenised, links: options.links, seconds: null },
      context,
    );
    return { dataset, resolution };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function reused(options: PreparationOptions, dataset: Dataset): PreprocessResult {
  const result = summarise(options, dataset);
  return { ...result, outcome: `as prepared before: ${result.outcome}` };
}

/** @throws AnnealError `data_rejected` with the gate's sentence. */
function requirePassed({ blocked }: Resolution): void {
  if (blocked !== null) throw new AnnealError('data_rejected', blocked);
}

/** Says in every report which range of how many it is about. */
function inRangeOf(context: StageContext, range: number, of: number): StageContext {
  const place = of === 1 ? '' : `range ${range + 1} of ${of}: `;
  return { ...context, report: (progress) => context.report({ ...progress, phase: `${place}${progress.phase}` }) };
}

/** The pieces of each range. */
async function readCleaned(store: ObjectStore, digests: string[]): Promise<CleanedPiece[][]> {
  return await inOrder(digests, async (digest) => {
    return (await readRecord(store, keys.cleanedRange(digest), CleanedRangeRecordSchema)).pieces;
  });
}

async function inOrder<T, R>(all: T[], work: (one: T, i: number) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const [i, one] of all.entries()) results.push(await work(one, i));
  return results;
}
