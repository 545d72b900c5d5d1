// Importing LLaMA-Factory's `dataset_info.json` and Axolotl's configurations: what they say of rows, and what is told of the rest.
import { describe, expect, test } from 'vitest';
import { importText, showImported } from '../../src/cli/commands/data-import.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import type { Imported } from '../../src/data/import/imported.ts';
import { createRowMapper } from '../../src/data/mapping.ts';

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string, more: object = {}) => ({ role: 'assistant', content, ...more });
const system = (content: string) => ({ role: 'system', content });

/** What a row becomes by what was imported, which must be a spec's. */
function mapBy({ data, method }: Imported, row: object): object {
  const spec = parseSpec({ name: 'x', data, train: { method } });
  const [source] = spec.data.sources as [(typeof spec.data.sources)[number]];
  return createRowMapper({ ...source, method, system: null })(row).content;
}

describe('dataset_info.json', () => {
  const importOne = (info: object) => importText(JSON.stringify({ set: info }), 'dataset_info.json', 'set');

  const cases: [name: string, info: object, row: object, content: object][] = [
    [
      'Alpaca as it comes',
      { file_name: 'alpaca_en_demo.json' },
      { instruction: 'a', input: 'i', output: 'b' },
      { messages: [user('a\ni'), assistant('b')] },
    ],
    [
      'Alpaca with columns of its own, a system message and history',
      {
        file_name: 'x.json',
        columns: { prompt: 'q', query: 'more', response: 'a', system: 's', history: 'h' },
      },
      { q: 'a', more: '', a: 'b', s: 'sys', h: [['m', 'n']] },
      { messages: [system('sys'), user('m'), assistant('n'), user('a'), assistant('b')] },
    ],
    [
      'text to read on',
      { file_name: 'c4_demo.jsonl', columns: { prompt: 'text' } },
      { text: 'once' },
      { text: 'once' },
    ],
    [
      'ShareGPT with tools, as glaive has them',
      {
        file_name: 'glaive_toolcall_en_demo.json',
        formatting: 'sharegpt',
        columns: { messages: 'conversations', tools: 'tools' },
      },
      {
        conversations: [
          { from: 'human', value: 'a' },
          { from: 'function_call', value: '{"name":"f","arguments":{}}' },
          { from: 'observation', value: '1' },
          { from: 'gpt', value: 'b' },
        ],
        tools: '[{"name":"f"}]',
      },
      {
        messages: [
          user('a'),
          assistant('', { tool_calls: '[{"type":"function","function":{"name":"f","arguments":{}}}]' }),
          { role: 'tool', content: '1' },
          assistant('b'),
        ],
        tools: '[{"name":"f"}]',
      },
    ],
    [
      'ShareGPT with tags of its own, and images',
      {
        file_name: 'mllm_demo.json',
        formatting: 'sharegpt',
        columns: { messages: 'messages', images: 'images' },
        tags: { role_tag: 'role', content_tag: 'content', user_tag: 'user', assistant_tag: 'assistant' },
      },
      { messages: [user('<image>a'), assistant('b')], images: ['mllm_demo_data/1.jpg'] },
      { messages: [user('<image>a'), assistant('b')], media: [{ ref: 'mllm_demo_data/1.jpg' }] },
    ],
    [
      'other words for everything',
      {
        file_name: 'x.json',
        formatting: 'sharegpt',
        columns: { messages: 'dialog' },
        tags: { role_tag: 'who', content_tag: 'says', user_tag: 'me', assistant_tag: 'it', system_tag: 'top' },
      },
      {
        dialog: [
          { who: 'top', says: 's' },
          { who: 'me', says: 'a' },
          { who: 'it', says: 'b' },
        ],
      },
      { messages: [system('s'), user('a'), assistant('b')] },
    ],
    [
      'OpenAI’s format',
      { file_name: 'x.jsonl', formatting: 'openai' },
      { messages: [user('a'), assistant('b')] },
      { messages: [user('a'), assistant('b')] },
    ],
    [
      'pairs in ShareGPT',
      {
        file_name: 'dpo_en_demo.json',
        ranking: true,
        formatting: 'sharegpt',
        columns: { messages: 'conversations', chosen: 'chosen', rejected: 'rejected' },
      },
      {
        conversations: [{ from: 'human', value: 'a' }],
        chosen: { from: 'gpt', value: 'b' },
        rejected: { from: 'gpt', value: 'c' },
      },
      { prompt: [user('a')], chosen: assistant('b'), rejected: assistant('c') },
    ],
    [
      'pairs in Alpaca',
      { file_name: 'x.json', ranking: true, columns: { prompt: 'q', chosen: 'good', rejected: 'bad' } },
      { q: 'a', good: 'b', bad: 'c' },
      { prompt: [user('a')], chosen: assistant('b'), rejected: assistant('c') },
    ],
    [
      'KTO in ShareGPT',
      {
        file_name: 'kto_en_demo.json',
        formatting: 'sharegpt',
        columns: { messages: 'messages', kto_tag: 'label' },
        tags: { role_tag: 'role', content_tag: 'content', user_tag: 'user', assistant_tag: 'assistant' },
      },
      { messages: [user('a'), assistant('b')], label: false },
      { prompt: [user('a')], completion: assistant('b'), label: false },
    ],
    [
      'KTO in Alpaca',
      { file_name: 'x.json', columns: { prompt: 'instruction', query: 'input', response: 'output', kto_tag: 'ok' } },
      { instruction: 'a', input: 'i', output: 'b', ok: true },
      { prompt: [user('a\ni')], completion: assistant('b'), label: true },
    ],
  ];
  test.each(cases)('%s', (_, info, row, content) => {
    const imported = importOne(info);
    expect(mapBy(imported, row)).toEqual(content);
    expect(imported.notes).toEqual([]);
  });

  test('what cannot be carried over is told, key by key', () => {
    const { data, notes } = importOne({
      hf_hub_url: 'org/set',
      subset: 'en',
      split: 'validation',
      folder: 'data',
      num_samples: 500,
      load_from: 'file',
      columns: { prompt: 'q', response: 'a', videos: 'v', mood: 'm' },
    });
    expect(data.sources).toEqual([
      {
        uri: 'org/set/data/',
        config: 'en',
        weight: { cap: 500 },
        columns: { user: '{{q}}{{#input}}\n{{input}}{{/input}}', assistant: '{{a}}' },
      },
    ]);
    expect(notes).toEqual([
      'set: org/set lies on the Hugging Face hub; fetch it (`hf download --repo-type dataset org/set --local-dir org/set`) so that the source’s path is there.'.replace(
        '’',
        "'",
      ),
      "set.split: validation is not chosen by a name here; point the source's path at that split's files.",
      'set.columns.videos: only text and images are read; it was left out.',
      'set.columns.mood has no counterpart and was left out.',
      'set.load_from has no counterpart and was left out.',
    ]);
  });

  test('all datasets of a file, or one by its name; several methods in one are refused', () => {
    const file = JSON.stringify({
      a: { file_name: 'a.json' },
      b: { file_name: 'b.json' },
      c: { file_name: 'c.json', ranking: true },
    });
    expect(() => importText(file, 'f', null)).toThrow(
      'its datasets are for several methods (sft, dpo); name one with --name',
    );
    expect(importText(file, 'f', 'c').method).toBe('dpo');
    expect(() => importText(file, 'f', 'd')).toThrow('it has no dataset d, only a, b, c');
    const two = JSON.stringify({ a: { file_name: 'a.json' }, b: { file_name: 'b.json' } });
    expect(importText(two, 'f', null).data.sources.map(({ uri }) => uri)).toEqual(['a.json', 'b.json']);
    // Its files are named from its own folder.
    const uris = importText(
      '{"a":{"file_name":"a.json"},"b":{"file_name":"/b.json"},"c":{"cloud_file_name":"s3://x/c"}}',
      'data/f',
      null,
    );
    expect(uris.data.sources.map(({ uri }) => uri)).toEqual(['data/a.json', '/b.json', 's3://x/c']);
  });

  test.each([
    [{ script_url: 'x.py' }, 'set is made by a script, which is not run'],
    [{}, 'set names no file_name and no hf_hub_url'],
    [{ file_name: 'x', formatting: 'odd' }, 'set.formatting is "odd", which is not known'],
    [{ file_name: 3 }, 'dataset_info.json.set.file_name must be text, found 3'],
  ])('%j is refused', (info, sentence) => {
    expect(() => importOne(info)).toThrow(sentence);
  });
});

describe('Axolotl', () => {
  const importYaml = (yaml: string) => importText(yaml, 'config.yaml', null);

  test('a configuration from its examples: chat template, roles, limits', () => {
    const imported = importYaml(`
base_model: NousResearch/Llama-3.2-1B
chat_template: llama3
datasets:
  - path: fozziethebeat/alpaca_messages_2k_test
    type: chat_template
    field_messages: dialogue
    message_property_mappings:
      role: speaker
      content: text
    roles:
      user: [human, user]
      assistant: [gpt, assistant]
    roles_to_train: ["assistant", "user"]
    train_on_eos: all
    message_field_training: learn
dataset_prepared_path: last_run_prepared
val_set_size: 0.05
sequence_len: 4096
excess_length_strategy: drop
sample_packing: true
micro_batch_size: 2
`);
    expect(imported.data).toEqual({
      sources: [
        {
          uri: 'fozziethebeat/alpaca_messages_2k_test/',
          columns: { messages: '{{dialogue}}' },
          turns: { role: 'speaker', content: 'text', weight: 'learn' },
          roles: { human: 'user', gpt: 'assistant' },
        },
      ],
      maxLength: 4096,
      tooLong: 'drop',
      split: { validation: 0.05 },
    });
    expect(imported.notes).toEqual([
      'datasets[0].roles_to_train: only assistant turns are trained on here.',
      'datasets[0].train_on_eos: all is not carried over; the end of each trained turn is trained on.',
      expect.stringMatching(
        /^datasets\[0\]: fozziethebeat\/alpaca_messages_2k_test lies on the Hugging Face hub; fetch it/,
      ),
      expect.stringMatching(/^val_set_size: 0\.05 becomes `data\.split\.validation`/),
      'Not about data, and left out: base_model, chat_template, sample_packing, micro_batch_size; `model` and `train` of a spec say it.',
    ]);
    const row = {
      dialogue: [
        { speaker: 'human', text: 'a' },
        { speaker: 'gpt', text: 'b', learn: false },
        { speaker: 'user', text: 'c' },
        { speaker: 'assistant', text: 'd' },
      ],
    };
    expect(mapBy(imported, row)).toEqual({
      messages: [user('a'), assistant('b', { weight: 0 }), user('c'), assistant('d')],
    });
  });

  const cases: [type: string, yaml: string, row: object, content: object][] = [
    [
      'alpaca',
      'type: alpaca',
      { instruction: 'a', input: 'i', output: 'b' },
      { messages: [user('a\ni'), assistant('b')] },
    ],
    [
      'sharegpt',
      'type: sharegpt',
      {
        conversations: [
          { from: 'human', value: 'a' },
          { from: 'gpt', value: 'b' },
        ],
      },
      { messages: [user('a'), assistant('b')] },
    ],
    [
      'chat_template',
      'type: chat_template',
      { messages: [user('a'), assistant('b')] },
      { messages: [user('a'), assistant('b')] },
    ],
    ['completion', 'type: completion\n    field: body', { body: 'once' }, { text: 'once' }],
    ['oasst', 'type: oasst', { INSTRUCTION: 'a', RESPONSE: 'b' }, { messages: [user('a'), assistant('b')] }],
    [
      'context_qa',
      'type: context_qa.load_v2',
      { context: 'c', question: 'a', answer: 'b' },
      { messages: [user('c\n\na'), assistant('b')] },
    ],
    [
      'open orca',
      'type: alpaca_w_system.load_open_orca',
      { system_prompt: 's', question: 'a', response: 'b' },
      { messages: [system('s'), user('a'), assistant('b')] },
    ],
    [
      'fields of its own',
      'type:\n      system_prompt: Be brief.\n      field_instruction: q\n      field_output: a\n      format: "[{instruction}]"',
      { q: 'a', a: 'b' },
      { messages: [system('Be brief.'), user('[a]'), assistant('b')] },
    ],
  ];
  test.each(cases)('%s', (_, yaml, row, content) => {
    const imported = importYaml(`datasets:\n  - path: data/x.jsonl\n    ${yaml}\n`);
    expect(mapBy(imported, row)).toEqual(content);
    expect(imported.notes).toEqual([]);
  });

  test('a format of plain text: its marks of roles are told of', () => {
    const { data, notes } = importYaml(
      'datasets:\n  - path: x.jsonl\n    type: {format: "[INST] {instruction} {input} [/INST]", no_input_format: "[INST] {instruction} [/INST]"}\n',
    );
    expect(data.sources[0]?.columns?.user).toBe('[INST] {{instruction}} {{input?}} [/INST]');
    expect(notes).toEqual([
      'datasets[0].type.no_input_format: one format serves rows with and without input; look at `columns.user`.',
      "datasets[0].type.format: the model's own template writes the marks of roles; take them out of `columns.user`.",
    ]);
  });

  test.each([
    [
      'dpo',
      'chatml.intel',
      { system: 's', question: 'a', chosen: 'b', rejected: 'c' },
      { prompt: [system('s'), user('a')], chosen: assistant('b'), rejected: assistant('c') },
    ],
    [
      'dpo',
      'chat_template.default',
      { messages: [user('a')], chosen: assistant('b'), rejected: assistant('c') },
      { prompt: [user('a')], chosen: assistant('b'), rejected: assistant('c') },
    ],
    [
      'kto',
      'llama3.ultra',
      { prompt: 'a', completion: 'b', label: true },
      { prompt: [user('a')], completion: assistant('b'), label: true },
    ],
  ])('%s with %s', (rl, type, row, content) => {
    const fields = type === 'chat_template.default' ? '\n    field_chosen: chosen\n    field_rejected: rejected' : '';
    const imported = importYaml(`rl: ${rl}\ndatasets:\n  - path: x.jsonl\n    type: ${type}${fields}\n`);
    expect(mapBy(imported, row)).toEqual(content);
  });

  test('files by name, several of one dataset, and formats', () => {
    const { data } = importYaml(
      'datasets:\n  - path: json\n    data_files: [a.jsonl, b.jsonl]\n    ds_type: json\n    type: alpaca\n  - {path: x, data_files: c.parquet, ds_type: parquet, type: alpaca}\n',
    );
    expect(data.sources.map(({ uri, format }) => [uri, format])).toEqual([
      ['a.jsonl', undefined],
      ['b.jsonl', undefined],
      ['x/c.parquet', 'parquet'],
    ]);
  });

  test.each([
    ['datasets: []', 'it has no `datasets`'],
    ['datasets:\n  - type: alpaca', 'datasets[0] has no path'],
    [
      'datasets:\n  - {path: x.json, type: input_output}',
      'datasets[0].type is "input_output", which has no counterpart; write `columns` for this source by hand',
    ],
    ['datasets: [', 'config.yaml is neither JSON nor YAML'],
    ['3', 'dataset_info.json must be an object, found 3'],
  ])('%j is refused', (yaml, sentence) => {
    expect(() => importYaml(yaml)).toThrow(sentence);
  });

  test('what is printed is a spec’s data part, with the notes as comments', () => {
    expect(
      showImported(
        importYaml('rl: dpo\ntrain_on_inputs: true\ndatasets:\n  - {path: x.jsonl, type: chatml.prompt_pairs}\n'),
      ),
    ).toBe(
      [
        '# train_on_inputs: only answers are trained on here.',
        'data:',
        '  sources:',
        '    - uri: x.jsonl',
        '      columns:',
        '        system: "{{system?}}"',
        '        user: "{{prompt}}"',
        '        chosen: "{{chosen}}"',
        '        rejected: "{{rejected}}"',
        'train:',
        '  method: dpo',
      ].join('\n'),
    );
  });
});
