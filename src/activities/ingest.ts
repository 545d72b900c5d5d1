// Stage `ingest`: freezes the sources into a content-addressed snapshot.
import type { IngestResult, StageInput } from '../contracts/stages.ts';
import { takeSnapshot } from '../data/snapshot.ts';
import type { SourceContext } from '../data/sources.ts';
import { findBaseModel } from '../trainer/base-model.ts';
import type { Parts } from './parts.ts';
import { runStage } from './stage.ts';

export function createIngestActivities(parts: Parts, readS3: SourceContext['readS3']) {
  return {
    async ingest({ spec }: StageInput): Promise<IngestResult> {
      return await runStage('ingest', async (context) => {
        // A base model that cannot be used is found before anything is copied.
        await findBaseModel(spec.model.base, parts.models);
        const snapshot = await takeSnapshot(
          parts.store,
          spec.data.sources,
          { examplesFolder: parts.examples, readS3 },
          ({ source, of, uri, bytesRead, sizeBytes }) =>
            context.report({
              phase: `read ${uri} (${source} of ${of})`,
              step: bytesRead,
              ...(sizeBytes === null ? {} : { of: sizeBytes }),
            }),
          context.signal,
        );
        const sizeBytes = snapshot.sources.reduce((sum, source) => sum + source.sizeBytes, 0);
        const count = snapshot.sources.length;
        return {
          snapshot: snapshot.digest,
          contents: snapshot.sources.map(({ sha256, etag }) => ({ sha256, etag })),
          sizeBytes,
          outcome: `${count} ${count === 1 ? 'source' : 'sources'}, ${formatBytes(sizeBytes)}, snapshot ${snapshot.digest.slice(0, 12)}`,
        };
      });
    },
  };
}

function formatBytes(bytes: number): string {
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}
