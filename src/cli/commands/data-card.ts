// `anneal data card`: the data card of a dataset, read on the terminal or written to a file.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Environment } from '../../contracts/environment.ts';
import type { BuiltCard } from '../../data/card/card.ts';
import { CARD_FILES } from '../../data/card/stored.ts';
import { buildStoppedCard } from '../../data/check.ts';
import { findDataset } from '../../data/quarantine.ts';
import { readStoredFile } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { type CardFile, cardFileOf, cardText } from '../card-file.ts';
import { CliError, EXIT } from '../failures.ts';
import { createLocalHost } from '../local-sources.ts';
import { createOutput, type Output } from '../output.ts';
import { withStore } from '../session.ts';

export async function card(what: string, options: { to?: string; json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const file = options.to === undefined ? shownFile(output) : cardFileOf('--to', options.to);
  return await withStore(async (store, environment) => {
    const bytes = await readCard(store, what, file, environment);
    if (options.to === undefined) {
      if (output.json) output.result(JSON.parse(bytes.toString('utf8')));
      else output.say(bytes.toString('utf8').trimEnd());
      return EXIT.done;
    }
    await writeFile(resolve(options.to), bytes);
    if (output.json) output.result({ file: resolve(options.to) });
    else output.say(`The data card is in ${resolve(options.to)}.`);
    return EXIT.done;
  });
}

function shownFile({ json }: Output): CardFile {
  return json ? CARD_FILES.json : CARD_FILES.markdown;
}

async function readCard(store: ObjectStore, what: string, file: CardFile, environment: Environment): Promise<Buffer> {
  const dataset = await findDataset(store, what);
  const bytes = dataset?.card ? await readStoredFile(store, dataset.card, file) : null;
  if (bytes !== null) return bytes;
  const stopped = dataset === null ? await buildStopped(store, what, environment) : null;
  if (stopped !== null) return Buffer.from(cardText(stopped, file));
  const reason =
    dataset === null
      ? `Neither a dataset ${what} nor a run of that name that has cleaned its data is in the store; \`anneal ps\` lists runs.`
      : `Dataset ${dataset.digest} was made before there were cards; run it again.`;
  throw new CliError('card_not_found', reason);
}

async function buildStopped(store: ObjectStore, run: string, environment: Environment): Promise<BuiltCard | null> {
  const folder = await mkdtemp(join(tmpdir(), 'anneal-card-'));
  try {
    return await buildStoppedCard(await createLocalHost(environment, store, folder), run);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
