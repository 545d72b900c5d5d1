// Names and places of the embedded stack: its parts, and which file of the state folder holds what.
import { join } from 'node:path';

/** In the order of starting: servers before workers. */
export const PART_NAMES = ['temporal', 'store', 'control', 'data', 'gpu', 'gateway'] as const;
export type PartName = (typeof PART_NAMES)[number];

/** Parts that the others live on; they start first and stop last. */
export const SERVER_PARTS: readonly PartName[] = ['temporal', 'store'];

/** What the set-up puts below the project's folder. */
export interface ProjectLayout {
  python: string;
  temporal: string;
  weed: string;
  models: string;
  examples: string;
}

export function locateProject(project: string): ProjectLayout {
  const binaries = join(project, '.anneal', 'venv', 'bin');
  return {
    python: join(binaries, 'python'),
    temporal: join(binaries, 'temporal'),
    weed: join(binaries, 'weed'),
    models: join(project, '.anneal', 'models'),
    examples: join(project, '.anneal', 'examples'),
  };
}

/** Where one stack keeps its state and its traces. */
export interface StateLayout {
  stackFile: string;
  lockFile: string;
  supervisorLog: string;
  temporalDatabase: string;
  storeFolder: string;
  credentialsFile: string;
  readyFolder: string;
  logFolder: string;
}

export function locateState(state: string): StateLayout {
  return {
    stackFile: join(state, 'stack.json'),
    lockFile: join(state, 'stack.lock'),
    supervisorLog: join(state, 'logs', 'supervisor.log'),
    temporalDatabase: join(state, 'temporal', 'dev.db'),
    storeFolder: join(state, 'store'),
    credentialsFile: join(state, 'store', 'credentials.json'),
    readyFolder: join(state, 'ready'),
    logFolder: join(state, 'logs'),
  };
}
