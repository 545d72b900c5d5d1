// What data activities are made of in tests: a store and a state folder in one place, the real tokeniser, the tiny model.
import { join } from 'node:path';
import type { Parts } from '../../src/activities/parts.ts';
import { createFileStore } from '../../src/storage/file-store.ts';
import { PROJECT_FOLDER } from '../../src/telemetry/code-identity.ts';

export const SMALL_RANGES = { bytes: 4_000, bytesMax: 8_000, align: 1, count: 1_000, pieces: 250 };

export function localParts(folder: string): Parts {
  return {
    store: createFileStore(join(folder, 'store')),
    python: {
      executable: join(PROJECT_FOLDER, '.anneal', 'venv', 'bin', 'python'),
      packageFolder: join(PROJECT_FOLDER, 'gpu-activity-image'),
      environment: { PATH: process.env.PATH ?? '' },
    },
    state: join(folder, `state-${process.pid}`),
    models: join(PROJECT_FOLDER, '.anneal', 'models'),
    examples: folder,
    host: 'here',
    gatewayUrl: '',
  };
}
