// The version that a run continues, `train.from`: found once and fixed for the run, whatever its alias names later.
import { AnnealError, type Problem, problemIf } from '../contracts/failure.ts';
import { type Parent, ParentSchema, type Version } from '../contracts/records.ts';
import { partsOfVersionName, type Recipe, RecipeSchema } from '../contracts/spec.ts';
import { digestOf } from '../storage/digest.ts';
import { keys } from '../storage/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { createJson, readJson } from '../storage/record.ts';
import { aliasOf, listEvents, listVersions, readVersion } from './versions.ts';

const PATH = 'train.from';

/** What `<model>@<version or alias>` names now. @throws AnnealError `bad_request` that says what there is. */
export async function findVersion(store: ObjectStore, name: string): Promise<Version> {
  const { model, which } = partsOfVersionName(name);
  const events = await listEvents(store, model);
  const number = /^\d+$/.test(which) ? Number(which) : aliasOf(events, which);
  const found = number === null ? null : await readVersion(store, model, number);
  if (found !== null) return found;
  const [versions, aliases] = [await listVersions(store, model), new Set(events.map(({ alias }) => alias))];
  const newest = versions.at(-1)?.version;
  const known =
    newest === undefined
      ? `there is no model ${model}; \`anneal models\` lists them`
      : `${model} has versions up to ${newest}${aliases.size === 0 ? '' : ` and the aliases ${[...aliases].sort().join(', ')}`}`;
  throw new AnnealError('bad_request', `There is no version ${name}: ${known}.`, {
    problems: [{ path: PATH, message: `names ${name}, but ${known}` }],
  });
}

/**
 * The version that the run continues; null = it begins with the base model. Asked first it is found and fixed, asked again it is the same.
 * @throws AnnealError `bad_request` when there is no such version.
 */
export async function parentOf(
  store: ObjectStore,
  { run, from }: { run: string; from: string | null },
): Promise<Version | null> {
  if (from === null) return null;
  const key = keys.parent(run, digestOf(from));
  const fixed = (await readJson(store, key, ParentSchema)) ?? (await fix(store, key, await findVersion(store, from)));
  const version = await readVersion(store, fixed.model, fixed.version);
  if (version?.digest === fixed.digest) return version;
  throw new AnnealError(
    'checkpoint_corrupt',
    `Version ${fixed.version} of ${fixed.model}, which run ${run} continues, is no longer the one with digest ${fixed.digest.slice(0, 12)}; restore its record from a replica.`,
  );
}

/** For a run that is yet to be started; its id follows from the version. */
export async function fixParent(
  store: ObjectStore,
  { run, from }: { run: string; from: string },
  version: Version,
): Promise<void> {
  await fix(store, keys.parent(run, digestOf(from)), version);
}

async function fix(store: ObjectStore, key: string, { model, version, digest }: Version): Promise<Parent> {
  const parent: Parent = { model, version, digest };
  const outcome = await createJson(store, key, parent);
  return outcome === 'exists' ? ((await readJson(store, key, ParentSchema)) ?? parent) : parent;
}

/** What decides the shape of an adapter; dropout is none of it. */
const SHAPE = ['rank', 'alpha', 'targets', 'firstLayer', 'rslora', 'dora', 'experts'] as const;

/**
 * Why the recipe cannot go on from the version. Pure.
 * @param baseDigest of the base model that the run would train.
 */
export function parentProblems(parent: Version, recipe: Recipe, baseDigest: string): Problem[] {
  const name = `${parent.model}@${parent.version}`;
  const theirs = RecipeSchema.safeParse({ ...parent.recipe, from: null });
  const isWhole = parent.peft === 'none';
  const has = isWhole ? 'is a whole model' : 'is an adapter';
  const other = `names ${name}, which`;
  const problems = [
    ...problemIf(
      parent.base.digest !== baseDigest,
      PATH,
      `${other} was trained on another base model: ${parent.base.name} with digest ${parent.base.digest.slice(0, 12)}, not ${baseDigest.slice(0, 12)}; set \`model.base\` to that one`,
    ),
    ...problemIf(
      isWhole !== (recipe.tuning === 'full'),
      PATH,
      `${other} ${has}; with \`train.tuning: ${recipe.tuning}\` a run continues ${isWhole ? 'an adapter: set `full`' : 'a whole model: set `lora` or `qlora`'}, or export it merged and name the folder as \`model.base\``,
    ),
  ];
  if (!theirs.success)
    return [...problems, { path: PATH, message: `${other} has a recipe that this release cannot read` }];
  const isReward = theirs.data.method === 'reward';
  problems.push(
    ...problemIf(
      isReward !== (recipe.method === 'reward'),
      PATH,
      isReward
        ? `${other} is a reward model; only \`train.method: reward\` continues one`
        : `${other} writes; \`train.method: reward\` trains a new output, so leave \`train.from\` out, or name a reward model`,
    ),
  );
  if (isWhole || recipe.tuning === 'full') return problems;
  const [mine, its] = [recipe.lora, theirs.data.lora];
  const different = SHAPE.filter((field) => shown(mine[field]) !== shown(its[field]));
  return [
    ...problems,
    ...different.map((field) => ({
      path: `train.lora.${field}`,
      message: `must be ${shown(its[field])}, as ${name} has it, which \`train.from\` continues, got ${shown(mine[field])}`,
    })),
  ];
}

function shown(value: unknown): string {
  return Array.isArray(value) ? [...value].sort().join(', ') : String(value);
}

/** The version and what it continues, newest first. A version that is no longer there ends it. */
export async function ancestryOf(store: ObjectStore, version: Version): Promise<Version[]> {
  const chain = [version];
  for (let parent = version.parent; parent !== null; ) {
    const next: Version | null = await readVersion(store, parent.model, parent.version);
    if (next === null) break;
    chain.push(next);
    parent = next.parent;
  }
  return chain;
}
