// Stage `ingest`: freezes the sources into a content-addressed snapshot. What was read is not read again by the next attempt.
import { Context } from '@temporalio/activity';
import { HandedSnapshotSchema, type Snapshot, SnapshotSchema } from '../contracts/records.ts';
import type { IngestResult, StageInput } from '../contracts/stages.ts';
import { type FreezeOptions, type FrozenSources, freezeSources, type IngestProgress } from '../data/snapshot.ts';
import type { SourceContext } from '../data/sources.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { readJson } from '../storage/record.ts';
import { findBaseModel } from '../trainer/base-model.ts';
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
        // A base model that cannot be used is found before anything is copied.
        await findBaseModel(spec.model.base, parts.models);
        const sources = { examplesFolder: parts.examples, readS3, ...more };
        const frozen =
          (await readHanded(parts.store, run)) ??
          (await freezeSources(
            parts.store,
            spec.data.sources,
            sources,
            (progress) => report(context, progress),
            context.signal,
            optionsFor(parts.store, run, spec.name),
          ));
        return resultOf(frozen);
      });
    },
  };
}

/** A run that a schedule planned reads nothing: the plan has read it, and what is followed is given once. */
async function readHanded(store: ObjectStore, run: string): Promise<FrozenSources | null> {
  const handed = await readJson(store, keys.handed(run), HandedSnapshotSchema);
  if (handed === null) return null;
  const snapshot: Snapshot = await readRecord(store, keys.snapshot(handed.snapshot), SnapshotSchema);
  return { snapshot, contents: handed.contents, notes: [] };
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

function resultOf({ snapshot, contents, notes }: FrozenSources): IngestResult {
  const sizeBytes = snapshot.sources.reduce((sum, source) => sum + source.sizeBytes, 0);
  const count = contents.length;
  const files = snapshot.sources.length > count ? ` (${snapshot.sources.length} files)` : '';
  const told = [
    ...notes.slice(0, NOTES_MAX),
    ...(notes.length > NOTES_MAX ? [`${notes.length - NOTES_MAX} more notes`] : []),
  ];
  const outcome = `${count} ${count === 1 ? 'source' : 'sources'}${files}, ${formatBytes(sizeBytes)}, snapshot ${snapshot.digest.slice(0, 12)}`;
  return { snapshot: snapshot.digest, contents, sizeBytes, outcome: [outcome, ...told].join('; ') };
}

function formatBytes(bytes: number): string {
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}
