// `anneal data card`: the data card of a dataset, read on the terminal or written to a file.
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { CARD_FILES } from '../../data/card/stored.ts';
import { findCard } from '../../data/quarantine.ts';
import { readStoredFile } from '../../storage/file-set.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { type CardFile, cardFileOf } from '../card-file.ts';
import { CliError, EXIT } from '../failures.ts';
import { createOutput, type Output } from '../output.ts';
import { withStore } from '../session.ts';

export async function card(what: string, options: { to?: string; json?: boolean }): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const file = options.to === undefined ? shownFile(output) : cardFileOf('--to', options.to);
  return await withStore(async (store) => {
    const bytes = await readCard(store, what, file);
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

async function readCard(store: ObjectStore, what: string, file: CardFile): Promise<Buffer> {
  const card = await findCard(store, what);
  const bytes = card === null ? null : await readStoredFile(store, card, file);
  if (bytes !== null) return bytes;
  throw new CliError(
    'card_not_found',
    `The store has no data card of ${what}: it is neither a dataset nor a run that has come to the end of preprocess or was stopped by a gate of it; \`anneal ps\` lists runs.`,
  );
}
