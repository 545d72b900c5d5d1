// Imports the data keys of an Axolotl configuration: `datasets` with their types, and what it says of splits and lengths.
import type { Columns, Roles } from '../../contracts/column-map.ts';
import type { Method } from '../../contracts/rows.ts';
import { typeOf } from './axolotl-types.ts';
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

/** @throws AnnealError `bad_request`. */
export function importAxolotl(configuration: unknown): Imported {
  const keys = readKeys(configuration, 'configuration');
  const notes: string[] = [];
  const method = readMethod(keys, notes);
  const entries = [keys.get('datasets'), keys.get('pretraining_dataset')].flat().filter((entry) => entry !== undefined);
  if (entries.length === 0) throw badDescription('it has no `datasets`');
  const sources = entries.flatMap((entry, i) => {
    const where = `datasets[${i}]`;
    return importDataset(typeof entry === 'string' ? { path: entry, type: 'completion' } : entry, where, method, notes);
  });
  const data = compact({ sources, ...readLimits(keys, notes) });
  noteRest(keys, notes);
  return { data, method, notes };
}

function readMethod(keys: Keys, notes: string[]): Method {
  const rl = keys.text('rl');
  if (keys.get('reward_model') === true) return 'reward';
  if (rl === undefined) return 'sft';
  if (rl === 'dpo' || rl === 'kto') return rl;
  notes.push(`rl: ${rl} is not trained here; the pairs are the same for \`train.method: dpo\`.`);
  return 'dpo';
}

function importDataset(value: unknown, where: string, method: Method, notes: string[]): SourceInput[] {
  const keys = readKeys(value, where);
  const type = keys.get('type');
  const mapped =
    typeof type === 'object'
      ? importUserDefined(readKeys(type, `${where}.type`), `${where}.type`, method, notes)
      : importType(keys, typeTextOf(type), where, method, notes);
  const format = formatOf(keys.text('ds_type'));
  const shards = keys.get('shards');
  if (shards !== undefined)
    notes.push(`${where}.shards: ${shards} is not carried over; \`weight: {ratio: …}\` takes a share of a source.`);
  noteLoss(keys, where, notes);
  const uris = readUris(keys, where, notes);
  const config = keys.text('name');
  notes.push(...keys.rest().map((key) => `${where}.${key} has no counterpart and was left out.`));
  return uris.map((uri) => compact({ uri, format, config, ...mapped }));
}

function typeTextOf(type: unknown): string {
  if (typeof type === 'string') return type;
  if (type === undefined) return 'chat_template';
  throw badDescription(`a dataset's type must be text or an object, found ${JSON.stringify(type)}`);
}

function formatOf(type: string | undefined): SourceInput['format'] {
  const formats: Record<string, SourceInput['format']> = { csv: 'csv', parquet: 'parquet' };
  return type === undefined ? undefined : formats[type];
}

/** Files by name, a folder, or a name on the hub. */
function readUris(keys: Keys, where: string, notes: string[]): string[] {
  const path = keys.text('path');
  if (path === undefined) throw badDescription(`${where} has no path`);
  const files = [keys.get('data_files')].flat().filter((file) => typeof file === 'string');
  const split = keys.text('split');
  if (split !== undefined && split !== 'train')
    notes.push(`${where}.split: ${split} is not chosen by a name here; point the source's path at that split's files.`);
  // Axolotl gives the reader's name as the path where the files are named beside it.
  const isReader = ['json', 'csv', 'parquet', 'text'].includes(path);
  const isFile = isReader || /^(\.|\/|~|s3:|https?:)|\.\w+$/.test(path);
  if (!isFile && /^[\w.-]+\/[\w.-]+$/.test(path)) notes.push(hubNote(path, where));
  if (files.length > 0) return isReader ? files : files.map((file) => `${path}/${file}`);
  return isFile ? [path] : [`${path}/`];
}

type Mapped = Pick<SourceInput, 'shape' | 'columns' | 'turns' | 'roles'>;

function importType(keys: Keys, type: string, where: string, method: Method, notes: string[]): Mapped {
  const [kind] = type.split('.') as [string];
  if (kind === 'chat_template' || kind === 'sharegpt') return importChat(keys, kind);
  if (kind === 'completion' || kind === 'pretrain')
    return { columns: { text: column(keys.text('field') ?? keys.text('text_column') ?? 'text') } };
  if (kind === 'user_defined') return importUserDefined(keys, where, method, notes);
  const known = typeOf(type, method);
  if (known === null)
    throw badDescription(
      `${where}.type is ${JSON.stringify(type)}, which has no counterpart; write \`columns\` for this source by hand`,
    );
  return known;
}

/** Messages with their own names of fields and roles; with `dpo` the two answers stand beside them. */
function importChat(keys: Keys, kind: string): Mapped {
  const messages = keys.text('field_messages') ?? (kind === 'sharegpt' ? 'conversations' : 'messages');
  const chosen = keys.text('field_chosen');
  const rejected = keys.text('field_rejected');
  const properties = keys.object('message_property_mappings');
  const role = properties.text('role') ?? keys.text('message_field_role') ?? (kind === 'sharegpt' ? 'from' : 'role');
  const content =
    properties.text('content') ?? keys.text('message_field_content') ?? (kind === 'sharegpt' ? 'value' : 'content');
  const weight = keys.text('message_field_training');
  const isKnown = (role === 'role' && content === 'content') || (role === 'from' && content === 'value');
  const columns: Columns = compact({
    messages: column(messages),
    system: optional(keys.text('field_system')),
    tools: optional(keys.text('field_tools')),
    chosen: chosen === undefined ? undefined : column(chosen),
    rejected: rejected === undefined ? undefined : column(rejected),
  });
  const roles = readRoles(keys.object('roles'));
  return compact({
    columns,
    turns: isKnown && weight === undefined ? undefined : compact({ role, content, weight }),
    roles: Object.keys(roles).length === 0 ? undefined : roles,
  });
}

/** Axolotl names for each role what the data call it. */
function readRoles(keys: Keys): Roles {
  const meant = ['system', 'user', 'assistant', 'tool'] as const;
  const pairs = meant.flatMap((role) =>
    [keys.get(role)].flat().flatMap((name) => (typeof name === 'string' && name !== role ? [[name, role]] : [])),
  );
  return Object.fromEntries(pairs) as Roles;
}

/** `type` as an object: fields by name, and a format whose braces are the same places with one pair more. */
function importUserDefined(keys: Keys, where: string, method: Method, notes: string[]): Mapped {
  const instruction =
    keys.text('field_instruction') ?? keys.text('field_prompt') ?? (method === 'sft' ? 'instruction' : 'prompt');
  const input = keys.text('field_input') ?? 'input';
  const fixed = keys.text('system_prompt');
  const system = keys.text('field_system');
  const format = keys.text('format') ?? keys.text('prompt_format');
  noteFormat(keys, format, where, notes);
  const columns: Columns = compact({
    system: system === undefined ? fixed || undefined : column(system, 'optional'),
    user: templateOf(format, instruction, input),
  });
  if (method === 'sft') return { columns: { ...columns, assistant: column(keys.text('field_output') ?? 'output') } };
  if (method === 'kto')
    return {
      columns: {
        ...columns,
        assistant: column(keys.text('field_completion') ?? 'completion'),
        label: column(keys.text('field_label') ?? 'label'),
      },
    };
  const [chosen, rejected] = [keys.text('field_chosen') ?? 'chosen', keys.text('field_rejected') ?? 'rejected'];
  return { columns: { ...columns, chosen: column(chosen), rejected: column(rejected) } };
}

/** The user's text: the columns stand where the format has its fields. */
function templateOf(format: string | undefined, instruction: string, input: string): string {
  if (format === undefined) return joined(instruction, input);
  return format
    .replaceAll(/\{(?:instruction|prompt)\}/g, column(instruction))
    .replaceAll('{input}', column(input, 'optional'));
}

/** A chat template writes the marks of the roles, which formats of plain text hold. */
function noteFormat(keys: Keys, format: string | undefined, where: string, notes: string[]): void {
  if (keys.text('no_input_format') !== undefined)
    notes.push(`${where}.no_input_format: one format serves rows with and without input; look at \`columns.user\`.`);
  if (format !== undefined && /\[INST\]|<\||###/.test(format))
    notes.push(
      `${where}.format: the model's own template writes the marks of roles; take them out of \`columns.user\`.`,
    );
}

function noteLoss(keys: Keys, where: string, notes: string[]): void {
  const trained = keys.get('roles_to_train');
  if (trained !== undefined && JSON.stringify(trained) !== '["assistant"]')
    notes.push(`${where}.roles_to_train: only assistant turns are trained on here.`);
  const eos = keys.text('train_on_eos');
  if (eos !== undefined && eos !== 'turn')
    notes.push(`${where}.train_on_eos: ${eos} is not carried over; the end of each trained turn is trained on.`);
  if (keys.get('train_on_inputs') === true) notes.push(`${where}.train_on_inputs: only answers are trained on here.`);
  const template = keys.get('chat_template');
  if (template !== undefined && template !== 'tokenizer_default')
    notes.push(
      `${where}.chat_template: the model's own template is used; put another next to the model as chat_template.jinja.`,
    );
}

function readLimits(keys: Keys, notes: string[]): Omit<Imported['data'], 'sources'> {
  const [length, held] = [keys.get('sequence_len'), keys.get('val_set_size')];
  const excess = keys.text('excess_length_strategy');
  if (keys.get('train_on_inputs') === true) notes.push('train_on_inputs: only answers are trained on here.');
  if (typeof held === 'number' && held > 1)
    notes.push(`val_set_size: ${held} rows is not carried over; \`data.split\` holds out shares.`);
  if (typeof held === 'number' && held > 0 && held <= 0.5)
    notes.push(
      `val_set_size: ${held} becomes \`data.split.validation\`; \`data.split.test\` holds out as many rows as it does by default, for the evaluation after training.`,
    );
  if (keys.get('test_datasets') !== undefined)
    notes.push(
      'test_datasets: rows are held out of the sources by a hash; a Hugging Face folder with a test split keeps it.',
    );
  return compact({
    maxLength: typeof length === 'number' ? length : undefined,
    tooLong: excess === 'drop' || excess === 'truncate' ? excess : undefined,
    split: typeof held === 'number' && held > 0 && held <= 0.5 ? { validation: held } : undefined,
  });
}

/** What is not about data stands elsewhere in a spec. */
function noteRest(keys: Keys, notes: string[]): void {
  const done = [
    'dataset_prepared_path',
    'dataset_processes',
    'dataset_num_proc',
    'shuffle_merged_datasets',
    'dataset_exact_deduplication',
  ];
  for (const key of done) keys.get(key);
  const rest = keys.rest();
  if (rest.length > 0)
    notes.push(
      `Not about data, and left out: ${rest.slice(0, 40).join(', ')}; \`model\` and \`train\` of a spec say it.`,
    );
}

function optional(name: string | undefined): string | undefined {
  return name === undefined ? undefined : column(name, 'optional');
}
