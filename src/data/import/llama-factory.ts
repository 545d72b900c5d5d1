// Imports datasets from LLaMA-Factory's `dataset_info.json`: Alpaca and ShareGPT formats with their columns, tags, ranking and KTO.
import { isAbsolute, join } from 'node:path';
import type { Columns, Roles } from '../../contracts/column-map.ts';
import type { Method } from '../../contracts/rows.ts';
import {
  badDescription,
  column,
  compact,
  hubNote,
  type Imported,
  joined,
  type Keys,
  readKeys,
  type SourceInput,
} from './imported.ts';

/**
 * @param only the name of one dataset; null = all that the file describes.
 * @param folder of the description, which its files are named from.
 * @throws AnnealError `bad_request`.
 */
export function importLlamaFactory(description: unknown, only: string | null, folder: string): Imported {
  const all = readKeys(description, 'dataset_info.json');
  const names = Object.keys(description as object);
  const wanted = only === null ? names : names.filter((name) => name === only);
  if (wanted.length === 0)
    throw badDescription(`it has no dataset ${only ?? ''}, only ${names.slice(0, 20).join(', ') || 'none'}`);
  const notes: string[] = [];
  const datasets = wanted.map((name) => importDataset(all.object(name), name, folder, notes));
  const methods = new Set(datasets.map(({ method }) => method));
  if (methods.size > 1)
    throw badDescription(`its datasets are for several methods (${[...methods].join(', ')})`, 'name one with --name');
  const [first] = datasets as [Dataset, ...Dataset[]];
  return { data: { sources: datasets.map(({ source }) => source) }, method: first.method, notes };
}

interface Dataset {
  source: SourceInput;
  method: Method;
}

function importDataset(keys: Keys, name: string, folder: string, notes: string[]): Dataset {
  const format = keys.text('formatting') ?? 'alpaca';
  const ranking = keys.get('ranking') === true;
  const columns = keys.object('columns');
  const uri = readUri(keys, name, folder, notes);
  const cap = keys.get('num_samples');
  const base = compact({ uri, config: keys.text('subset'), weight: typeof cap === 'number' ? { cap } : undefined });
  const split = keys.text('split');
  if (split !== undefined && split !== 'train')
    notes.push(`${name}.split: ${split} is not chosen by a name here; point the source's path at that split's files.`);
  const mapped =
    format === 'alpaca' ? importAlpaca(columns, ranking) : importShareGpt(keys, columns, format, ranking, name);
  noteMedia(columns, name, notes);
  notes.push(...columns.rest().map((key) => `${name}.columns.${key} has no counterpart and was left out.`));
  notes.push(...keys.rest().map((key) => `${name}.${key} has no counterpart and was left out.`));
  return { source: { ...base, ...mapped.source }, method: mapped.method };
}

function readUri(keys: Keys, name: string, folder: string, notes: string[]): string {
  const below = keys.text('folder');
  const hub = keys.text('hf_hub_url') ?? keys.text('ms_hub_url') ?? keys.text('om_hub_url');
  const file = keys.text('file_name') ?? keys.text('cloud_file_name');
  if (keys.text('script_url') !== undefined)
    throw badDescription(`${name} is made by a script, which is not run; write its rows into a file and name that`);
  if (file !== undefined) return isAbsolute(file) || /^\w+:/.test(file) ? file : join(folder, file);
  if (hub === undefined) throw badDescription(`${name} names no file_name and no hf_hub_url`);
  notes.push(hubNote(hub, name));
  return below === undefined ? `${hub}/` : `${hub}/${below}/`;
}

interface Mapped {
  source: Pick<SourceInput, 'shape' | 'columns' | 'turns' | 'roles'>;
  method: Method;
}

function importAlpaca(columns: Keys, ranking: boolean): Mapped {
  const [prompt, query] = [columns.text('prompt') ?? 'instruction', columns.text('query') ?? 'input'];
  const [response, label] = [columns.text('response'), columns.text('kto_tag')];
  const shared: Columns = compact({
    system: optionalOf(columns, 'system'),
    history: optionalOf(columns, 'history'),
    user: prompt === query ? column(prompt) : joined(prompt, query),
    tools: optionalOf(columns, 'tools'),
    images: optionalOf(columns, 'images'),
  });
  if (ranking) return { source: { columns: { ...shared, ...pairOf(columns) } }, method: 'dpo' };
  const assistant = column(response ?? 'output');
  if (label !== undefined)
    return { source: { columns: { ...shared, assistant, label: column(label) } }, method: 'kto' };
  if (response === undefined && columns.text('prompt') !== undefined && columns.text('query') === undefined)
    return { source: { columns: { text: column(prompt) } }, method: 'sft' };
  return { source: { columns: { ...shared, assistant } }, method: 'sft' };
}

const TAGS = {
  role_tag: 'from',
  content_tag: 'value',
  user_tag: 'human',
  assistant_tag: 'gpt',
  observation_tag: 'observation',
  function_tag: 'function_call',
  system_tag: 'system',
} as const;

/** OpenAI's tags are those of its own messages. */
const OPENAI_TAGS: Partial<Record<keyof typeof TAGS, string>> = {
  role_tag: 'role',
  content_tag: 'content',
  user_tag: 'user',
  assistant_tag: 'assistant',
  observation_tag: 'tool',
};

function importShareGpt(keys: Keys, columns: Keys, format: string, ranking: boolean, name: string): Mapped {
  if (format !== 'sharegpt' && format !== 'openai')
    throw badDescription(
      `${name}.formatting is ${JSON.stringify(format)}, which is not known; use alpaca, sharegpt or openai`,
    );
  const messages = columns.text('messages') ?? (format === 'openai' ? 'messages' : 'conversations');
  const label = columns.text('kto_tag');
  const mapped: Columns = compact({
    messages: column(messages),
    system: optionalOf(columns, 'system'),
    tools: optionalOf(columns, 'tools'),
    images: optionalOf(columns, 'images'),
    ...(ranking ? pairOf(columns) : {}),
    label: label === undefined ? undefined : column(label),
  });
  const named = readTags(keys.object('tags'), format);
  return { source: { columns: mapped, ...named }, method: ranking ? 'dpo' : label === undefined ? 'sft' : 'kto' };
}

/** Turns' fields and roles, where they are not those that are known anyway. */
function readTags(tags: Keys, format: string): Pick<SourceInput, 'turns' | 'roles'> {
  const tag = (key: keyof typeof TAGS) =>
    tags.text(key) ?? (format === 'openai' ? OPENAI_TAGS[key] : undefined) ?? TAGS[key];
  const [role, content] = [tag('role_tag'), tag('content_tag')];
  const isKnown = (role === 'from' && content === 'value') || (role === 'role' && content === 'content');
  const wanted: [string, Roles[string]][] = [
    [tag('user_tag'), 'user'],
    [tag('assistant_tag'), 'assistant'],
    [tag('observation_tag'), 'tool'],
    [tag('function_tag'), 'function_call'],
    [tag('system_tag'), 'system'],
  ];
  const roles = Object.fromEntries(wanted.filter(([name, meant]) => name !== meant && !isUsual(name, meant)));
  return compact({
    turns: isKnown ? undefined : { role, content },
    roles: Object.keys(roles).length === 0 ? undefined : roles,
  });
}

/** ShareGPT's own names are known without being told. */
function isUsual(name: string, meant: string | undefined): boolean {
  return (
    (name === 'human' && meant === 'user') ||
    (name === 'gpt' && meant === 'assistant') ||
    (name === 'observation' && meant === 'tool')
  );
}

function pairOf(columns: Keys): Columns {
  return {
    chosen: column(columns.text('chosen') ?? 'chosen'),
    rejected: column(columns.text('rejected') ?? 'rejected'),
  };
}

function optionalOf(columns: Keys, key: string): string | undefined {
  const name = columns.text(key);
  return name === undefined ? undefined : column(name, 'optional');
}

function noteMedia(columns: Keys, name: string, notes: string[]): void {
  for (const key of ['videos', 'audios'])
    if (columns.get(key) !== undefined)
      notes.push(`${name}.columns.${key}: only text and images are read; it was left out.`);
}
