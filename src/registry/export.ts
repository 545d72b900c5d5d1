// A trained model as a folder: weights as other tools read them, which step was the best, and where they come from.
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AnnealError } from '../contracts/failure.ts';
import type { FileSet, Parent, Training, Version } from '../contracts/records.ts';
import { getFolder } from '../storage/file-set.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { readTraining } from './trained.ts';
import { aliasOf, listEvents, readVersion } from './versions.ts';

/** Of what is exported. */
export interface Exportable {
  run: string;
  /** null where it is exported as a run, registered or not. */
  version: (Pick<Version, 'model' | 'version'> & { parent?: Parent }) | null;
  training: Training;
}

/** Says what lies in the folder; written first, so that another model is never mixed in. */
const MARKER = 'export.json';

/** The training of a run, or of a model's version (null = the champion). null when there is neither. */
export async function findExportable(
  store: ObjectStore,
  what: string,
  number: number | null,
): Promise<Exportable | null> {
  const chosen = number ?? aliasOf(await listEvents(store, what), 'champion');
  const version = chosen === null ? null : await readVersion(store, what, chosen);
  if (number !== null && version === null) return null;
  const run = version?.run ?? what;
  const training = await readTraining(store, run);
  return training && { run, version: version && nameOf(version), training };
}

function nameOf({ model, version, parent }: Version): NonNullable<Exportable['version']> {
  return { model, version, ...(parent && { parent }) };
}

/** The folders that an export has, by name: `adapter` or `model`, and what the recipe's `outputs` name. */
export function foldersOf({ training: { adapter, outputs } }: Exportable): Record<string, FileSet> {
  const isAdapter = adapter.files.some(({ path }) => path === 'adapter_config.json');
  return { [isAdapter ? 'adapter' : 'model']: adapter, ...outputs };
}

/**
 * Writes the folders beside each other, each file with the digest of its record. Broken off and begun again it goes on.
 * @throws AnnealError `bad_request` when the folder holds something else.
 */
export async function writeExport(
  store: ObjectStore,
  found: Exportable,
  folder: string,
  names: string[],
): Promise<void> {
  const { run, version, training } = found;
  const { step, epochs, trainLoss, evalLoss, bestModel, weightsSha256, libraries } = training.result;
  const about = { run, ...version, baseDigest: training.baseDigest, step, epochs, trainLoss, evalLoss };
  const marker = JSON.stringify({ ...about, weightsSha256, libraries }, null, 2);
  await mkdir(folder, { recursive: true });
  const there = await readdir(folder);
  const before = await readFile(join(folder, MARKER), 'utf8').catch(() => null);
  if (before === null ? there.length > 0 : before !== `${marker}\n`)
    throw new AnnealError(
      'bad_request',
      `${folder} holds something else already; name an empty folder, or one that does not exist.`,
    );
  await writeWhole(join(folder, MARKER), marker);
  if (bestModel !== null) await writeWhole(join(folder, 'best_model_info.json'), JSON.stringify(bestModel, null, 2));
  const folders = foldersOf(found);
  for (const name of names) await getFolder(store, folders[name] as FileSet, join(folder, name));
}

async function writeWhole(path: string, text: string): Promise<void> {
  await writeFile(`${path}.part`, `${text}\n`);
  await rename(`${path}.part`, path);
}
