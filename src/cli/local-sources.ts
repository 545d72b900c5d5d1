// What commands read sources with on this machine: no stack is needed, and the environment of one that runs is taken over.
import { join, resolve } from 'node:path';
import { type Environment, readEnvironment } from '../contracts/environment.ts';
import type { PreparationHost } from '../data/preparation/host.ts';
import type { SourceContext } from '../data/sources.ts';
import { locateProject } from '../dev/stack-layout.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { PROJECT_FOLDER } from '../telemetry/code-identity.ts';
import { CliError } from './failures.ts';
import { createS3Listing } from './s3-etag.ts';
import { hasEmbeddedStack, resolveEnvironment } from './settings.ts';

export interface FoundEnvironment {
  environment: Environment;
  hasStack: boolean;
  /** The stack is not the embedded one of this machine: its workers may have what is not here, and lack what is. */
  isElsewhere: boolean;
}

export async function findEnvironment(): Promise<FoundEnvironment> {
  try {
    return { environment: await resolveEnvironment(), hasStack: true, isElsewhere: !(await hasEmbeddedStack()) };
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    const { examples } = locateProject(PROJECT_FOLDER);
    return {
      environment: readEnvironment({ ANNEAL_EXAMPLES: examples, ...process.env }),
      hasStack: false,
      isElsewhere: false,
    };
  }
}

/** What the steps of preprocess work with on this machine. They say nothing of how far they are unless `report` listens. */
export async function createLocalHost(
  environment: Environment,
  store: ObjectStore,
  folder: string,
  report: PreparationHost['report'] = () => undefined,
): Promise<PreparationHost> {
  return {
    ...{ store, folder: join(folder, 'work'), sources: await createLocalSources(environment, folder) },
    pseudonymKey: environment.ANNEAL_PSEUDONYM_KEY ?? null,
    ...{ signal: new AbortController().signal, report },
  };
}

/** @param folder for what can only be read from a disk. */
export async function createLocalSources(environment: Environment, folder: string): Promise<SourceContext> {
  return {
    ...(await createS3Listing(environment)),
    examplesFolder: resolve(environment.ANNEAL_EXAMPLES),
    temporaryFolder: join(folder, 'disk'),
  };
}
