// `anneal data import`: another tool's description of datasets as the `data` part of a spec.
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { parse as parseYaml, stringify } from 'yaml';
import { AnnealError } from '../../contracts/failure.ts';
import { importAxolotl } from '../../data/import/axolotl.ts';
import type { Imported } from '../../data/import/imported.ts';
import { importLlamaFactory } from '../../data/import/llama-factory.ts';
import { EXIT } from '../failures.ts';
import { createOutput } from '../output.ts';

export interface ImportOptions {
  /** `dataset_info.json`, or a configuration of Axolotl. */
  from: string;
  /** Of a `dataset_info.json`: only this dataset. */
  name?: string;
  json?: boolean;
}

/** Prints YAML that stands in a spec as it is: what could not be carried over is told in comments above. */
export async function importData(options: ImportOptions): Promise<number> {
  const output = createOutput({ json: options.json ?? false });
  const imported = importText(readFile(options.from), options.from, options.name ?? null);
  if (output.json) output.result(imported);
  else output.say(showImported(imported));
  return EXIT.done;
}

/** JSON is LLaMA-Factory's, YAML with `datasets` is Axolotl's. */
export function importText(text: string, file: string, name: string | null): Imported {
  const description = parse(text, file);
  const isAxolotl =
    typeof description === 'object' &&
    description !== null &&
    ('datasets' in description || 'pretraining_dataset' in description);
  return isAxolotl && name === null ? importAxolotl(description) : importLlamaFactory(description, name, dirname(file));
}

export function showImported({ data, method, notes }: Imported): string {
  const comments = notes.map((note) => `# ${note}\n`).join('');
  const train = method === 'sft' ? {} : { train: { method } };
  return `${comments}${stringify({ data, ...train }, { lineWidth: 0 })}`.trimEnd();
}

function readFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new AnnealError(
      'bad_request',
      `${path} cannot be read (${code}); give the path of a dataset_info.json or a YAML file.`,
    );
  }
}

function parse(text: string, file: string): unknown {
  try {
    return parseYaml(text);
  } catch (error) {
    const [reason = ''] = String(error instanceof Error ? error.message : error).split('\n');
    throw new AnnealError('bad_request', `${file} is neither JSON nor YAML: ${reason}; correct it.`);
  }
}
