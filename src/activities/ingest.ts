// Stage `ingest`: freezes the sources into a content-addressed snapshot. What was read is not read again by the next attempt.

import { Context } from '@temporalio/activity';
import { type Source, suitesOf } from '../contracts/data-spec.ts';
import { plural } from '../contracts/plural.ts';
import { HandedSnapshotSchema, type Snapshot, SnapshotSchema } from '../contracts/records.ts';
import type { IngestResult, StageInput } from '../contracts/stages.ts';
import { type FreezeOptions, type FrozenSources, freezeSources, type IngestProgress } from '../data/snapshot.ts';
import type { SourceContext } from '../data/sources.ts';
import { parentOf } from '../registry/parent.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { readJson } from '../storage/record.ts';
import { requireUsableBase } from './base-problems.ts';
import type { Parts } from './parts.ts';
import { readRecord, rememberStage, runStage, type StageContext } from './stage.ts';

/** Notes told in the outcome. */
const NOTES_MAX = 3;

export function createIngestActivities(
  parts: Parts,
  readS3: SourceContext['readS3'],
  more: Partial<SourceContext> = {},
) {
  return {
    async ingest({ run, spec }: StageInput): Promise<IngestResult> {
      return await runStage('ingest', async (context) => {
        const parent = await parentOf(parts.store, { run, from: spec.train.from });
        await requireUsableBase(parts, spec, parent, context.signal);
        const sources = { examplesFolder: parts.examples, readS3, ...more };
        const frozen =
          (await readHanded(parts.store, run)) ?? (await freezeInputs(parts.store, { run, spec }, sources, context));
        const { outcome, ...result } = resultOf(frozen, spec.data.sources.length);
        const continues = parent === null ? '' : `; continues ${parent.model}@${parent.version}`;
        return { ...result, outcome: `${outcome}${continues}` };
      });
    },
  };
}

/** A run that a schedule planned reads nothing: the plan has read it, and what is followed is given once. */
async function readHanded(store: ObjectStore, run: string): Promise<FrozenInputs | null> {
  const handed = await readJson(store, keys.handed(run), HandedSnapshotSchema);
  if (handed === null) return null;
  const snapshot: Snapshot = await readRecord(store, keys.snapshot(handed.snapshot), SnapshotSchema);
  return { snapshot, contents: handed.contents, suites: handed.suites, notes: [] };
}

interface FrozenInputs extends FrozenSources {
  /** Digest of the evaluation suites' snapshot; null = there are none, undefined = they were not read. */
  suites: string | null | undefined;
}

/** The sources as the run's snapshot, and the evaluation suites as one of their own; the contents of both are what a run is known by. */
async function freezeInputs(
  store: ObjectStore,
  { run, spec }: StageInput,
  sources: SourceContext,
  context: StageContext,
): Promise<FrozenInputs> {
  const options = optionsFor(store, run, spec.name);
  const freeze = (inputs: Source[], more: FreezeOptions) =>
    freezeSources(store, inputs, sources, (progress) => report(context, progress), context.signal, {
      ...options,
      ...more,
    });
  const frozen = await freeze(spec.data.sources, { spec });
  const suites = suitesOf(spec.data);
  if (suites.length === 0) return { ...frozen, suites: null };
  const frozenSuites = await freeze(suites, {});
  return {
    ...frozen,
    contents: [...frozen.contents, ...frozenSuites.contents],
    suites: frozenSuites.snapshot.digest,
  };
}

/** Remembered for this execution alone: one that is started anew reads what is there then. */
function optionsFor(store: ObjectStore, run: string, name: string): FreezeOptions {
  const execution = Context.current().info.workflowExecution?.runId ?? null;
  return {
    follower: { name, run },
    remember: async (input, schema, work) =>
      (await rememberStage(store, { run, stage: 'ingest', input: { execution, ...input }, schema }, work)).value,
  };
}

function report(context: StageContext, { source, of, uri, bytesRead, sizeBytes }: IngestProgress): void {
  const phase = `read ${uri} (${source} of ${of})`;
  context.report({ phase, step: bytesRead, ...(sizeBytes === null ? {} : { of: sizeBytes }) });
}

function resultOf({ snapshot, contents, suites, notes }: FrozenInputs, count: number): IngestResult {
  const sizeBytes = snapshot.sources.reduce((sum, source) => sum + source.sizeBytes, 0);
  const files = snapshot.sources.length > count ? ` (${snapshot.sources.length} files)` : '';
  const told = [
    ...notes.slice(0, NOTES_MAX),
    ...(notes.length > NOTES_MAX ? [`${notes.length - NOTES_MAX} more notes`] : []),
  ];
  const outcome = `${plural(count, 'source')}${files}, ${formatBytes(sizeBytes)}, snapshot ${snapshot.digest.slice(0, 12)}`;
  const digests = { snapshot: snapshot.digest, ...(suites !== undefined && { suites }) };
  return { ...digests, contents, sizeBytes, outcome: [outcome, ...told].join('; ') };
}

function formatBytes(bytes: number): string {
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}
