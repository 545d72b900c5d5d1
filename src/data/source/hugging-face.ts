// The layout of a Hugging Face data set: which files belong to it, and to which split, by its README or by the names of its files.
// As the Hub reads them: https://huggingface.co/docs/hub/datasets-data-files-configuration
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import type { Split } from '../../contracts/rows.ts';
import { compileGlob } from './glob.ts';
import { badSource } from './raw.ts';

export interface SplitFile {
  name: string;
  split: Split | null;
}

const Patterns = z.union([z.string(), z.array(z.string())]).transform((given) => [given].flat());
const ConfigSchema = z.object({
  config_name: z.string().default('default'),
  data_dir: z.string().optional(),
  default: z.boolean().default(false),
  data_files: z
    .union([
      z.array(z.object({ split: z.string(), path: Patterns })),
      Patterns.transform((path) => [{ split: 'train', path }]),
    ])
    .optional(),
});
type Config = z.infer<typeof ConfigSchema>;

/** The words of the Hub, set off by anything that is no letter or digit. */
const WORDS: readonly (readonly [Split, RegExp])[] = [
  ['test', /(^|[^a-z0-9])(test|testing|eval|evaluation)([^a-z0-9]|$)/i],
  ['validation', /(^|[^a-z0-9])(validation|valid|val|dev)([^a-z0-9]|$)/i],
  ['train', /(^|[^a-z0-9])(train|training)([^a-z0-9]|$)/i],
];

/**
 * The data files and their splits; null when the folder is no such data set. Where it has no test split, its training rows are split by
 * us as any others.
 */
export function readLayout(
  names: string[],
  readme: string | null,
  config: string | null,
  uri: string,
): SplitFile[] | null {
  const chosen = chooseConfig(readConfigs(readme, uri), config, uri);
  const files = chosen?.data_files ? byPatterns(names, chosen, uri) : byNames(inFolder(names, chosen, config));
  if (files === null || files.length === 0) return null;
  const hasTest = files.some(({ split }) => split === 'test');
  return files.map(({ name, split }) => ({ name, split: split === 'train' && !hasTest ? null : split }));
}

function readConfigs(readme: string | null, uri: string): Config[] {
  const header = /^---\r?\n([\s\S]*?)\r?\n---/.exec(readme ?? '')?.[1];
  if (header === undefined) return [];
  try {
    return z.object({ configs: z.array(ConfigSchema).default([]) }).parse(parseYaml(header) ?? {}).configs;
  } catch (error) {
    throw badSource(
      uri,
      'has a README.md whose `configs` cannot be read; correct it, or name the files by a pattern',
      error,
    );
  }
}

function chooseConfig(configs: Config[], wanted: string | null, uri: string): Config | null {
  const names = configs.map(({ config_name }) => config_name);
  if (wanted !== null) {
    const found = configs.find(({ config_name }) => config_name === wanted);
    if (found === undefined && configs.length > 0)
      throw badSource(uri, `has no configuration ${wanted}; set \`config\` to one of ${names.join(', ')}`);
    return found ?? null;
  }
  if (configs.length <= 1) return configs[0] ?? null;
  const first = configs.find((one) => one.default || one.config_name === 'default');
  if (first === undefined)
    throw badSource(uri, `has ${configs.length} configurations; set \`config\` to one of ${names.join(', ')}`);
  return first;
}

function byPatterns(names: string[], { data_files = [], data_dir }: Config, uri: string): SplitFile[] {
  return data_files.flatMap(({ split, path }) =>
    path.flatMap((pattern) => {
      const glob = compileGlob((data_dir ? `${data_dir}/` : '') + pattern.replace(/^\.\//, ''));
      const found = names.filter((name) => glob.test(name));
      if (found.length === 0)
        throw badSource(uri, `lacks the files ${pattern} that its README.md names for ${split}; fetch them`);
      return found.map((name) => ({ name, split: splitNamed(split, uri) }));
    }),
  );
}

/** Splits of other names are no part of train, validation and test, and mixing them in would be a guess. */
function splitNamed(split: string, uri: string): Split {
  const found = WORDS.find(([, word]) => word.test(split))?.[0];
  if (found !== undefined) return found;
  throw badSource(
    uri,
    `has a split ${split}, which is none of train, validation and test; name the files by a pattern`,
  );
}

function inFolder(names: string[], chosen: Config | null, wanted: string | null): string[] {
  const folder = chosen?.data_dir ?? (chosen === null ? wanted : null);
  return folder === null ? names : names.filter((name) => name.startsWith(`${folder.replace(/\/$/, '')}/`));
}

/** null where no name says that it is for training: words like `dev` alone mean other things, too. */
function byNames(names: string[]): SplitFile[] | null {
  const files = names.map((name) => ({ name, split: WORDS.find(([, word]) => word.test(name))?.[0] ?? null }));
  return files.some(({ split }) => split === 'train') ? files.filter(({ split }) => split !== null) : null;
}
