// `anneal models`: what the registry holds.
import { ancestryOf, findVersion } from '../../registry/parent.ts';
import { aliasOf, listEvents, listModels, listVersions } from '../../registry/versions.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { CliError, EXIT } from '../failures.ts';
import { createOutput, type Output } from '../output.ts';
import { withStore } from '../session.ts';
import { ancestryTable, modelsTable, versionsTable } from '../views/tables.ts';

export async function models(name: string | undefined, options: { json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  return withStore(async (store) => {
    if (name?.includes('@')) return await showAncestry(store, name, output);
    const names = await listModels(store);
    const only = name ?? (names.length === 1 ? names[0] : undefined);
    if (only === undefined) {
      const summaries = await Promise.all(names.map((model) => summariseModel(store, model)));
      if (output.json) output.result(summaries);
      else for (const line of modelsTable(summaries, output.paint)) output.say(line);
      return EXIT.done;
    }
    if (!names.includes(only)) {
      const known = names.length > 0 ? `there are ${names.join(', ')}` : 'there are none yet';
      throw new CliError('model_not_found', `Model ${only} has no version; ${known}.`);
    }
    const { versions, aliases } = await readModel(store, only);
    if (output.json) {
      output.result(versions.map((v) => ({ ...v, aliases: aliases.get(v.version) ?? [] })));
    } else {
      output.say(output.paint.bold(only));
      for (const line of versionsTable(versions.toReversed(), aliases, Date.now(), output.paint)) output.say(line);
    }
    return EXIT.done;
  });
}

async function showAncestry(store: ObjectStore, name: string, output: Output): Promise<number> {
  const chain = await ancestryOf(store, await findVersion(store, name));
  if (output.json) output.result(chain);
  else for (const line of ancestryTable(chain, Date.now(), output.paint)) output.say(line);
  return EXIT.done;
}

async function summariseModel(store: ObjectStore, model: string) {
  const versions = await listVersions(store, model);
  return { model, versions: versions.length, champion: aliasOf(await listEvents(store, model), 'champion') };
}

async function readModel(store: ObjectStore, model: string) {
  const [versions, events] = await Promise.all([listVersions(store, model), listEvents(store, model)]);
  const aliases = new Map<number, string[]>();
  for (const alias of new Set(events.map((event) => event.alias))) {
    const version = aliasOf(events, alias);
    if (version !== null) aliases.set(version, [...(aliases.get(version) ?? []), alias]);
  }
  return { versions, aliases };
}
