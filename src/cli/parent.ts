// The version that a run is to continue, looked up before anything is started.
import type { Environment } from '../contracts/environment.ts';
import { AnnealError, type Problem } from '../contracts/failure.ts';
import type { Version } from '../contracts/records.ts';
import type { Spec } from '../contracts/spec.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { openBaseModel } from '../trainer/base-model.ts';
import { locateLocal } from './drill/local.ts';

/** null = the run begins with its base model. @throws AnnealError `bad_request` when there is none, or the run cannot go on from it. */
export async function findParent(spec: Spec, environment: Environment): Promise<Version | null> {
  const { from } = spec.train;
  if (from === null) return null;
  const { findVersion, parentProblems } = await import('../registry/parent.ts');
  const parent = await withStoreOf(environment, (store) => findVersion(store, from));
  const problems = parentProblems(parent, spec.train, await baseDigestOf(spec, parent));
  if (problems.length > 0) throw new AnnealError('bad_request', sentence(problems), { problems });
  return parent;
}

/** Fixes it for runs that are yet to be started: an alias that moves meanwhile changes nothing of them. */
export async function fixParentOf(
  runs: string[],
  spec: Spec,
  parent: Version | null,
  environment: Environment,
): Promise<void> {
  const { from } = spec.train;
  if (from === null || parent === null) return;
  const { fixParent } = await import('../registry/parent.ts');
  await withStoreOf(environment, async (store) => {
    for (const run of runs) await fixParent(store, { run, from }, parent);
  });
}

/** Of a base model that is not here, its name says what it is; the stage ingest, which has it, looks at its bytes. */
async function baseDigestOf({ model }: Spec, parent: Version): Promise<string> {
  const { models } = locateLocal();
  const base = await openBaseModel(model.base, models).catch(() => null);
  if (base !== null) return base.digest;
  return model.base === parent.base.name ? parent.base.digest : model.base;
}

function sentence(problems: Problem[]): string {
  return `${problems.map(({ path, message }) => `\`${path}\` ${message}`).join('; ')}.`;
}

async function withStoreOf<T>(environment: Environment, work: (store: ObjectStore) => Promise<T>): Promise<T> {
  const { createStoreFromEnvironment } = await import('../storage/open-store.ts');
  const store = createStoreFromEnvironment(environment);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}
