// `anneal data check`: what a run would keep and drop of sources, and why, without a stack and without training.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Spec } from '../../contracts/spec.ts';
import { type CheckedData, checkData } from '../../data/check.ts';
import { cardFileOf, cardText } from '../card-file.ts';
import { CliError, EXIT } from '../failures.ts';
import { createLocalHost, findEnvironment } from '../local-sources.ts';
import { createOutput } from '../output.ts';
import { loadSpec } from '../spec-file.ts';
import { createLiveBlock } from '../terminal.ts';
import { checkLines } from '../views/data.ts';

export interface CheckOptions {
  spec?: string;
  set?: string[];
  /** Where the data card goes: .html, .md or .json. */
  card?: string;
  json?: boolean;
}

/** 0 = a run would go on, 1 = a gate would stop it. */
export async function check(sources: string[], options: CheckOptions): Promise<number> {
  if (sources.length === 0 && options.spec === undefined)
    throw new CliError('usage', 'Name a source, or a spec with `--spec <file>`.', EXIT.usage);
  const cardFile = options.card === undefined ? null : cardFileOf('--card', options.card);
  const output = createOutput({ json: options.json ?? false });
  const settings = {
    set: options.set ?? [],
    source: sources,
    ...(options.spec === undefined ? { name: 'check' } : {}),
  };
  const progress = createProgress(!output.json);
  const checked = await checkLocally(loadSpec(options.spec, settings, process.cwd()), progress.say).finally(
    progress.end,
  );
  if (options.card !== undefined && cardFile !== null)
    await writeFile(resolve(options.card), cardText(checked.card, cardFile));
  const { files, total } = checked;
  if (output.json) output.result({ files, total });
  else for (const line of checkLines(checked, output.width(), output.paint)) output.say(line);
  if (output.json && checked.blocked !== null) output.say(checked.blocked);
  if (options.card !== undefined) output.say(`The data card is in ${resolve(options.card)}.`);
  return checked.blocked === null ? EXIT.done : EXIT.failed;
}

/** One line that is written over, where people watch. */
function createProgress(isShown: boolean): { say: (phase: string) => void; end: () => void } {
  if (!isShown || !process.stderr.isTTY) return { say: () => undefined, end: () => undefined };
  const block = createLiveBlock(process.stderr);
  return {
    say: (phase) => block.draw([phase]),
    end: () => {
      block.draw(['']);
      block.end();
    },
  };
}

async function checkLocally(spec: Spec, say: (phase: string) => void): Promise<CheckedData> {
  const { createFileStore } = await import('../../storage/file-store.ts');
  const { environment } = await findEnvironment();
  const folder = await mkdtemp(join(tmpdir(), 'anneal-check-'));
  const store = createFileStore(join(folder, 'store'));
  try {
    const host = await createLocalHost(environment, store, folder, ({ phase }) => say(phase));
    return await checkData(host, spec);
  } finally {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}
