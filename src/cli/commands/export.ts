// `anneal export`: the weights of a run or a version as a folder.
import { resolve } from 'node:path';
import { type Exportable, findExportable, foldersOf, writeExport } from '../../registry/export.ts';
import { listModels } from '../../registry/versions.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { CliError, EXIT } from '../failures.ts';
import { createOutput } from '../output.ts';
import { withStore } from '../session.ts';
import { exportLines } from '../views/export.ts';

export interface ExportOptions {
  to: string;
  only?: string[];
  json?: boolean;
}

export async function exportModel(what: string, version: string | undefined, options: ExportOptions): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const folder = resolve(options.to);
  return await withStore(async (store) => {
    const found = await find(store, what, version === undefined ? null : versionNumber(version));
    const names = choose(found, options.only ?? null);
    await writeExport(store, found, folder, names);
    const folders = Object.fromEntries(Object.entries(foldersOf(found)).filter(([name]) => names.includes(name)));
    if (output.json) output.result({ run: found.run, ...found.version, folder, folders: names });
    else for (const line of exportLines(found, folders, folder, output.paint)) output.say(line);
    return EXIT.done;
  });
}

/** `3` or `v3`. */
function versionNumber(text: string): number {
  const [, digits] = /^v?([1-9]\d{0,7})$/.exec(text) ?? [];
  if (digits === undefined) throw new CliError('usage', `A version is a number such as 3, got ${text}.`, EXIT.usage);
  return Number(digits);
}

async function find(store: ObjectStore, what: string, version: number | null): Promise<Exportable> {
  const found = await findExportable(store, what, version);
  if (found !== null) return found;
  if (version !== null)
    throw new CliError(
      'model_not_found',
      `Model ${what} has no version ${version}; \`anneal models ${what}\` lists them.`,
    );
  const models = await listModels(store);
  const known = models.length === 0 ? 'there is no model yet' : `models are ${models.join(', ')}`;
  throw new CliError(
    'run_not_found',
    `The store has no weights of ${what}: it is neither a model (${known}) nor a run whose training is done; \`anneal ps\` lists runs.`,
  );
}

function choose(found: Exportable, only: string[] | null): string[] {
  const known = Object.keys(foldersOf(found));
  const unknown = (only ?? []).filter((name) => !known.includes(name));
  if (unknown.length === 0) return only ?? known;
  throw new CliError(
    'usage',
    `Run ${found.run} has no ${unknown.join(', ')}; it has ${known.join(', ')}. \`train.outputs\` of a spec says what is kept besides.`,
    EXIT.usage,
  );
}
