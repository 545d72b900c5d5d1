// A spec as a user writes it: a YAML or JSON file, with settings from the command line, and source paths that are relative
// to the file. What leaves here is complete, valid and free of relative paths.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parse as parseYaml, YAMLParseError } from 'yaml';
import { AnnealError, type Problem } from '../contracts/failure.ts';
import { partsOf, setPath } from '../contracts/paths.ts';
import { parseSpec, type Spec } from '../contracts/spec.ts';
import { baseOf, isPattern } from '../data/source/glob.ts';

export interface SpecOptions {
  /** `path=value`, such as `train.epochs=2`; the value is read as YAML. */
  set?: string[];
  /** Replace the sources of the file; relative to the working folder. */
  source?: string[];
  name?: string;
  team?: string;
  priority?: number;
}

/** @throws AnnealError `bad_request` with every problem at once. */
export function loadSpec(file: string | undefined, options: SpecOptions, workingFolder: string): Spec {
  const fromFile = file === undefined ? {} : readYamlFile(resolve(workingFolder, file), 'Spec');
  const problems: Problem[] = [];
  const folder = file === undefined ? workingFolder : dirname(resolve(workingFolder, file));
  let input = resolveSources(fromFile, folder, problems);
  for (const setting of options.set ?? []) input = applySetting(input, setting);
  if (options.source?.length) {
    const given = setPath(
      input,
      ['data', 'sources'],
      options.source.map((uri) => ({ uri })),
    );
    input = resolveSources(given, workingFolder, problems);
  }
  if (options.name !== undefined) input = setPath(input, ['name'], options.name);
  if (options.team !== undefined) input = setPath(input, ['queue', 'team'], options.team);
  if (options.priority !== undefined) input = setPath(input, ['queue', 'priority'], options.priority);
  return parseAll(input, problems);
}

function parseAll(input: unknown, problems: Problem[]): Spec {
  let spec: Spec | null = null;
  try {
    spec = parseSpec(input);
  } catch (error) {
    if (!(error instanceof AnnealError)) throw error;
    problems.push(...error.problems);
  }
  if (spec !== null && problems.length === 0) return spec;
  const lines = problems.map((p) => `\`${p.path || 'spec'}\` ${p.message}`);
  const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`;
  const text = `The spec has ${count}: ${lines.join('; ')}`;
  throw new AnnealError('bad_request', text.endsWith('?') ? text : `${text}.`, { problems });
}

export function readYamlFile(path: string, kind: 'Spec' | 'Sweep'): unknown {
  if (!existsSync(path)) {
    throw new AnnealError('bad_request', `${kind} file ${path} does not exist; give the path of a YAML or JSON file.`);
  }
  try {
    return parseYaml(readFileSync(path, 'utf8')) ?? {};
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    const line = error.linePos?.[0].line ?? 1;
    const what = error.message.split('\n')[0]?.replace(/ at line .*$/, '');
    throw new AnnealError('bad_request', `${kind} file ${path} is neither YAML nor JSON: line ${line}: ${what}.`);
  }
}

/** Local paths become absolute `file://` addresses, because the worker that reads them has another working folder. */
export function resolveSources(input: unknown, folder: string, problems: Problem[]): unknown {
  const data = (input as { data?: { sources?: unknown; decontaminate?: { against?: unknown } } } | null)?.data;
  const resolved = (list: unknown, path: string, resolve: typeof resolveSource) =>
    Array.isArray(list) ? list.map((one: unknown, i) => resolve(one, `${path}[${i}]`, folder, problems)) : undefined;
  const sources = resolved(data?.sources, 'data.sources', (source, path, ...rest) =>
    resolveSource(source, `${path}.uri`, ...rest),
  );
  const suites = resolved(data?.decontaminate?.against, 'data.decontaminate.against', resolveSuite);
  const withSources = sources === undefined ? input : setPath(input, ['data', 'sources'], sources);
  return suites === undefined ? withSources : setPath(withSources, ['data', 'decontaminate', 'against'], suites);
}

function resolveSuite(uri: unknown, path: string, folder: string, problems: Problem[]): unknown {
  return (resolveSource({ uri }, path, folder, problems) as { uri: unknown }).uri;
}

function resolveSource(source: unknown, path: string, folder: string, problems: Problem[]): unknown {
  const uri = (source as { uri?: unknown } | null)?.uri;
  if (typeof uri !== 'string' || uri === '' || /^(https?|s3|example|postgres|postgresql):/.test(uri)) return source;
  const database = /^sqlite:(.*)$/s.exec(uri)?.[1];
  if (database !== undefined) return { ...(source as object), uri: `sqlite:${resolve(folder, database)}` };
  const file = /^file:/.test(uri) ? fileURLToPath(uri) : resolve(folder, uri);
  const wrong = whyUnreadable(uri, file);
  if (wrong === null) return { ...(source as object), uri: pathToFileURL(file).href };
  problems.push({ path, message: wrong });
  return source;
}

function whyUnreadable(uri: string, file: string): string | null {
  if (/^[a-z][a-z0-9+.-]+:/i.test(uri) && !uri.startsWith('file:')) {
    return `has an unknown scheme; use a path, file://, http(s)://, s3://, example:, sqlite: or postgres://, got ${uri}`;
  }
  if (existsSync(file)) return null;
  if (!isPattern(file)) return `names the file ${file}, which does not exist`;
  return existsSync(baseOf(file)) ? null : `looks for files in the folder ${baseOf(file)}, which does not exist`;
}

/** @throws AnnealError `bad_request` when there is no `=`. */
function applySetting(input: unknown, setting: string): unknown {
  const at = setting.indexOf('=');
  const path = setting.slice(0, at).trim();
  if (at < 1 || path === '') {
    throw new AnnealError('bad_request', `--set takes path=value, such as train.epochs=2, got ${setting}.`);
  }
  return setPath(input, partsOf(path), parseYaml(setting.slice(at + 1)) ?? null);
}
