// `anneal data quarantine`: the rows that were dropped, on the terminal or as a file.
import { createWriteStream } from 'node:fs';
import { resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { DROP_CODES, type QuarantinedRow } from '../../contracts/rows.ts';
import { hintOf } from '../../data/card/hints.ts';
import { loadSnapshot } from '../../data/preparation/snapshots.ts';
import { createOriginals, findQuarantine, type Quarantine, readQuarantine } from '../../data/quarantine.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { CliError, EXIT } from '../failures.ts';
import { createOutput } from '../output.ts';
import { withStore } from '../session.ts';
import { quarantineLines } from '../views/data.ts';
import { plural } from '../views/format.ts';

interface ShowOptions {
  code?: string;
  limit: number;
  json?: boolean;
}

export async function showQuarantine(what: string, options: ShowOptions): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  requireCode(options.code);
  return await withStore(async (store) => {
    const quarantine = await requireQuarantine(store, what);
    const rows: QuarantinedRow[] = [];
    for await (const row of rowsOf(store, quarantine, options.code)) {
      rows.push(row);
      if (rows.length === options.limit) break;
    }
    const dropped = countOf(quarantine, options.code);
    if (output.json) output.result({ dropped: quarantine.dropped, rows: rows.map(withHint) });
    else for (const line of quarantineLines({ rows, dropped }, output.width(), output.paint)) output.say(line);
    return EXIT.done;
  });
}

interface ExportOptions {
  code?: string;
  to: string;
  /** Each row as it stands in its source. */
  original?: boolean;
  json?: boolean;
}

export async function exportQuarantine(what: string, options: ExportOptions): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  requireCode(options.code);
  return await withStore(async (store) => {
    const quarantine = await requireQuarantine(store, what);
    const originalOf = options.original ? await openOriginals(store, quarantine) : null;
    const target = resolve(options.to);
    let rows = 0;
    const lines = async function* () {
      for await (const row of rowsOf(store, quarantine, options.code)) {
        rows++;
        yield `${JSON.stringify(originalOf === null ? withHint(row) : { ...withHint(row), original: await originalOf(row) })}\n`;
      }
    };
    // What personal data it holds is nobody else's.
    await pipeline(Readable.from(lines()), createWriteStream(target, { mode: 0o600 }));
    if (output.json) output.result({ file: target, rows });
    else output.say(`${plural(rows, 'row')} written to ${target}.`);
    return EXIT.done;
  });
}

function withHint(row: QuarantinedRow) {
  return { ...row, hint: hintOf(row.code) };
}

function requireCode(code: string | undefined): void {
  if (code === undefined || (DROP_CODES as readonly string[]).includes(code)) return;
  throw new CliError('usage', `No row is ever dropped under ${code}; codes are ${DROP_CODES.join(', ')}.`, EXIT.usage);
}

async function requireQuarantine(store: ObjectStore, what: string): Promise<Quarantine> {
  const quarantine = await findQuarantine(store, what);
  if (quarantine !== null) return quarantine;
  throw new CliError(
    'dataset_not_found',
    `Neither a dataset nor a run ${what} with cleaned rows is in the store; \`anneal ps\` lists runs.`,
  );
}

async function openOriginals(store: ObjectStore, { snapshot, dropColumns }: Quarantine) {
  const hides = dropColumns === null ? 'may drop columns' : `drops the columns ${dropColumns.join(', ')}`;
  if (dropColumns === null || dropColumns.length > 0)
    throw new CliError(
      'refused',
      `The spec ${hides}, so rows are not given out as they stand in their sources; export without --original.`,
    );
  return createOriginals(store, await loadSnapshot(store, snapshot));
}

async function* rowsOf(store: ObjectStore, { files }: Quarantine, code: string | undefined) {
  for await (const row of readQuarantine(store, files)) if (code === undefined || row.code === code) yield row;
}

function countOf({ dropped }: Quarantine, code: string | undefined): number {
  if (code !== undefined) return dropped[code] ?? 0;
  return Object.values(dropped).reduce((sum, n) => sum + n, 0);
}
