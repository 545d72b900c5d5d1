// The shapes that rows come in and the rules that a chat must keep: what a row becomes, or why it is dropped.
import { describe, expect, test } from 'vitest';
import { DROP_CODES } from '../../src/contracts/rows.ts';
import { createRowMapper, groupTextOf, type Mapping } from '../../src/data/mapping.ts';
import type { Chat } from '../../src/data/shapes.ts';
import { RowFault } from '../../src/data/turns.ts';

const mapRow = (row: unknown, shape: Mapping['shape'], system: string | null) =>
  createRowMapper({ method: 'sft', shape, system })(row).content as Chat;

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string, more: object = {}) => ({ role: 'assistant', content, ...more });
const chat = (...messages: unknown[]) => ({ messages });

const call = { id: 'c1', type: 'function', function: { name: 'f', arguments: '{"x":1}' } };

describe('what a row becomes', () => {
  test.each([
    ['OpenAI messages', chat(user('a'), assistant('b')), [user('a'), assistant('b')]],
    [
      'a system and a developer message first',
      chat({ role: 'developer', content: 's' }, user('a'), assistant('b')),
      [{ role: 'developer', content: 's' }, user('a'), assistant('b')],
    ],
    [
      'unknown fields left out',
      { messages: [{ ...user('a'), mood: 'x' }, assistant('b')], id: 7 },
      [user('a'), assistant('b')],
    ],
    [
      'weights',
      chat(user('a'), assistant('b', { weight: 0 }), user('c'), assistant('d', { weight: 1 })),
      [user('a'), assistant('b', { weight: 0 }), user('c'), assistant('d', { weight: 1 })],
    ],
    [
      'text parts joined',
      chat(
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
        assistant('c'),
      ),
      [user('a\nb'), assistant('c')],
    ],
    [
      'tool calls as JSON text',
      chat(
        user('a'),
        { role: 'assistant', content: null, tool_calls: [call] },
        { role: 'tool', content: '', tool_call_id: 'c1', name: 'f' },
        assistant('b'),
      ),
      [
        user('a'),
        assistant('', { tool_calls: JSON.stringify([{ ...call }]) }),
        { role: 'tool', content: '', name: 'f', tool_call_id: 'c1' },
        assistant('b'),
      ],
    ],
    [
      'two tool results',
      chat(
        user('a'),
        { role: 'assistant', tool_calls: JSON.stringify([call, call]) },
        { role: 'tool', content: '1' },
        { role: 'tool', content: '2' },
        assistant('b'),
      ),
      [
        user('a'),
        assistant('', { tool_calls: JSON.stringify([call, call]) }),
        { role: 'tool', content: '1' },
        { role: 'tool', content: '2' },
        assistant('b'),
      ],
    ],
    [
      'the older function calls',
      chat(
        user('a'),
        { role: 'assistant', content: null, function_call: { name: 'f', arguments: '{}' } },
        { role: 'function', name: 'f', content: '1' },
        assistant('b'),
      ),
      [
        user('a'),
        assistant('', { tool_calls: '[{"type":"function","function":{"name":"f","arguments":"{}"}}]' }),
        { role: 'tool', content: '1', name: 'f' },
        assistant('b'),
      ],
    ],
    [
      'ShareGPT',
      {
        system: 's',
        conversations: [
          { from: 'human', value: 'a' },
          { from: 'gpt', value: 'b' },
        ],
      },
      [{ role: 'system', content: 's' }, user('a'), assistant('b')],
    ],
    [
      'ShareGPT with tools',
      {
        conversations: [
          { from: 'human', value: 'a' },
          { from: 'function_call', value: '{"name":"f"}' },
          { from: 'observation', value: '1' },
          { from: 'gpt', value: 'b' },
        ],
      },
      [
        user('a'),
        assistant('', { tool_calls: '[{"type":"function","function":{"name":"f"}}]' }),
        { role: 'tool', content: '1' },
        assistant('b'),
      ],
    ],
    ['Alpaca with input', { instruction: 'a', input: 'i', output: 'b' }, [user('a\ni'), assistant('b')]],
    ['Alpaca without input', { instruction: 'a', input: '', output: 'b', system: '' }, [user('a'), assistant('b')]],
    [
      'Alpaca with history and system',
      { instruction: 'a', output: 'b', system: 's', history: [['h', 'i']] },
      [{ role: 'system', content: 's' }, user('h'), assistant('i'), user('a'), assistant('b')],
    ],
    [
      'Dolly, which names Alpaca otherwise',
      { instruction: 'a', context: 'i', response: 'b', category: 'x' },
      [user('a\ni'), assistant('b')],
    ],
    ['prompt and completion as text', { prompt: 'a', completion: 'b' }, [user('a'), assistant('b')]],
    [
      'prompt and completion as messages; only the completion is trained on',
      { prompt: [user('a'), assistant('b'), user('c')], completion: [assistant('d')] },
      [user('a'), assistant('b', { weight: 0 }), user('c'), assistant('d')],
    ],
    [
      'what an assistant thought',
      chat(
        user('a'),
        assistant('b', { reasoning_content: 'r' }),
        { ...user('c'), reasoning_content: 'x' },
        assistant('d'),
      ),
      [user('a'), assistant('b', { reasoning_content: 'r' }), user('c'), assistant('d')],
    ],
    [
      'a call at the end, which has no result yet',
      chat(user('a'), { role: 'assistant', tool_calls: [call] }),
      [user('a'), assistant('', { tool_calls: JSON.stringify([call]) })],
    ],
    [
      'turns as JSON text, as tables hold them',
      { messages: JSON.stringify([user('a'), assistant('b')]) },
      [user('a'), assistant('b')],
    ],
    [
      'ShareGPT with two calls at once',
      {
        conversations: [
          { from: 'human', value: 'a' },
          { from: 'function_call', value: '[{"name":"f"},{"name":"g"}]' },
          { from: 'observation', value: '1' },
          { from: 'gpt', value: 'b' },
        ],
      },
      [
        user('a'),
        assistant('', {
          tool_calls: '[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]',
        }),
        { role: 'tool', content: '1' },
        assistant('b'),
      ],
    ],
    [
      'ShareGPT’s turns under OpenAI’s name',
      {
        messages: [
          { from: 'human', value: 'a' },
          { from: 'gpt', value: 'b' },
        ],
      },
      [user('a'), assistant('b')],
    ],
    [
      'user and assistant with system and history',
      { system: 's', history: [['h', 'i']], user: 'a', assistant: 'b' },
      [{ role: 'system', content: 's' }, user('h'), assistant('i'), user('a'), assistant('b')],
    ],
    ['question and answer', { question: 'a', answer: 'b' }, [user('a'), assistant('b')]],
    ['query and response with context', { query: 'a', response: 'b', context: 'x' }, [user('x\n\na'), assistant('b')]],
    [
      'a system message beside the messages, as Anthropic and Bedrock have it',
      { system: 's', ...chat(user('a'), assistant('b')) },
      [{ role: 'system', content: 's' }, user('a'), assistant('b')],
    ],
    [
      'one of the messages’ own goes before it',
      { system: 's', ...chat({ role: 'system', content: 'own' }, user('a'), assistant('b')) },
      [{ role: 'system', content: 'own' }, user('a'), assistant('b')],
    ],
    [
      'OpenOrca’s name of the system message',
      { id: 'x', system_prompt: 's', question: 'a', response: 'b' },
      [{ role: 'system', content: 's' }, user('a'), assistant('b')],
    ],
    [
      'what an assistant thought, as gpt-oss and OpenRouter name it',
      chat(
        user('a'),
        assistant('b', { thinking: 'r', reasoning: null }),
        user('c'),
        assistant('d', { reasoning: 'q' }),
      ),
      [user('a'), assistant('b', { reasoning_content: 'r' }), user('c'), assistant('d', { reasoning_content: 'q' })],
    ],
    [
      'tool calls without OpenAI’s frame',
      chat(user('a'), assistant('', { tool_calls: [{ id: 'c1', name: 'f', arguments: { x: [{ y: 1 }] } }] })),
      [
        user('a'),
        assistant('', {
          tool_calls: '[{"type":"function","id":"c1","function":{"name":"f","arguments":{"x":[{"y":1}]}}}]',
        }),
      ],
    ],
    ['input and output', { input: 'a', output: 'b' }, [user('a'), assistant('b')]],
    ['prompt and output', { prompt: 'a', output: 'b' }, [user('a'), assistant('b')]],
    ['prompt and answer', { prompt: 'a', answer: 'b' }, [user('a'), assistant('b')]],
  ])('%s', (_, row, messages) => {
    expect(mapRow(row, 'auto', null)).toEqual({ messages });
  });

  test('a text without turns stays one, without the system message of the spec', () => {
    const map = createRowMapper({ method: 'sft', shape: 'auto', system: 's' });
    expect(map({ text: 'a\n b ', meta: { file: 'x' } }).content).toEqual({ text: 'a\n b ' });
    expect(map({ text: 'a', question: 'q', answer: 'r' }).content).toHaveProperty('messages');
    expect(groupTextOf({ text: 'a' })).toBe('a');
    expect(createRowMapper({ method: 'sft', shape: 'text', system: null })({ text: 'a', label: 1 }).content).toEqual({
      text: 'a',
    });
    expect(() => map({ text: ' ' })).toThrow('text is empty; write the text, or leave the row out');
    expect(() => map({ text: '\ud83d' })).toThrow('half a surrogate pair');
    expect(() => map({ text: 3 })).toThrow('text must be text, found the number 3');
  });

  test('keys stand in the order of the schema, whatever the order in the source', () => {
    const { messages } = mapRow(
      chat({ content: 'a', role: 'user' }, { weight: 1, content: 'b', role: 'assistant', name: 'n' }),
      'auto',
      null,
    );
    expect(JSON.stringify(messages)).toBe(
      '[{"role":"user","content":"a"},{"role":"assistant","content":"b","name":"n","weight":1}]',
    );
  });

  test.each([
    ['tools', { tools: [{ type: 'function', function: { name: 'f' } }] }],
    ['tools as JSON text', { tools: '[{"type":"function","function":{"name":"f"}}]' }],
    ['the older functions', { functions: [{ name: 'f' }] }],
  ])('%s become JSON text', (_, fields) => {
    expect(mapRow({ ...chat(user('a'), assistant('b')), ...fields }, 'auto', null).tools).toBe(
      '[{"type":"function","function":{"name":"f"}}]',
    );
  });

  test('the system message of the spec is put before rows that have none', () => {
    expect(mapRow({ prompt: 'a', completion: 'b' }, 'auto', 'S').messages).toEqual([
      { role: 'system', content: 'S' },
      user('a'),
      assistant('b'),
    ]);
    expect(mapRow({ system: 's', prompt: 'a', completion: 'b' }, 'auto', 'S').messages[0]).toEqual({
      role: 'system',
      content: 's',
    });
    expect(mapRow({ prompt: 'a', completion: 'b' }, 'auto', '').messages[0]).toEqual(user('a'));
  });

  test('a shape that the spec names is taken, not guessed', () => {
    const row = { messages: 'a note', question: 'a', answer: 'b' };
    expect(mapRow(row, 'question-answer', null).messages).toEqual([user('a'), assistant('b')]);
    expect(() => mapRow(row, 'auto', null)).toThrow('messages must be a list');
  });
});

const FAULTS: [code: string, path: string, row: unknown, sentence: string][] = [
  ['not_object', '', [1], 'the row must be an object, found a list of 1'],
  ['not_object', '', null, 'the row must be an object, found null'],
  ['not_object', '', 'x', 'the row must be an object, found the text "x"'],
  [
    'unknown_shape',
    '',
    { title: 'a', id: 1 },
    'the fields (title, id) are of no known shape; use messages, conversations,',
  ],
  [
    'unknown_shape',
    '',
    { text: 'a', label: 1 },
    'text has a label, and is no chat; make one of both by the source’s `columns`, or set its `shape` to text',
  ],
  ['unknown_shape', '', {}, 'the fields (none) are of no known shape'],
  ['missing_field', 'output', { instruction: 'a' }, 'output is missing; add text'],
  ['missing_field', 'answer', { question: 'a' }, 'answer is missing'],
  ['missing_field', 'question', { answer: 'a' }, 'question is missing'],
  ['missing_field', 'completion', { prompt: 'a' }, 'completion is missing'],
  ['missing_field', 'messages', chat(), 'messages is an empty list'],
  ['missing_field', 'messages[0].role', chat({ content: 'a' }), 'messages[0].role is missing'],
  ['missing_field', 'messages[1].content', chat(user('a'), { role: 'assistant' }), 'messages[1].content is missing'],
  [
    'missing_field',
    'conversations[0].value',
    { conversations: [{ from: 'human' }] },
    'conversations[0].value is missing',
  ],
  [
    'missing_field',
    'messages[1].tool_calls[0].function.name',
    chat(user('a'), { role: 'assistant', tool_calls: [{ function: {} }] }),
    'function.name is missing',
  ],
  ['wrong_type', 'messages', { messages: 'x' }, 'messages must be a list, found the text "x"; write it as a list'],
  ['wrong_type', 'messages[0]', chat('x'), 'messages[0] must be an object'],
  [
    'wrong_type',
    'messages[0].content',
    chat({ role: 'user', content: 42 }),
    'messages[0].content must be text, found the number 42; put it into quotes',
  ],
  [
    'wrong_type',
    'messages[1].content',
    chat(user('a'), { role: 'assistant', content: null }),
    'must be text, found null',
  ],
  [
    'wrong_type',
    'messages[0].content[0].type',
    chat({ role: 'user', content: [{ type: 'video' }] }),
    'must be a part of type text, image or image_url, found the text "video"',
  ],
  ['wrong_type', 'messages[0].name', chat({ role: 'user', content: 'a', name: 1 }), 'messages[0].name must be text'],
  [
    'wrong_type',
    'messages[0].tool_calls',
    chat({ role: 'user', content: 'a', tool_calls: [call] }),
    'stands on a user turn',
  ],
  [
    'wrong_type',
    'messages[1].tool_calls',
    chat(user('a'), { role: 'assistant', tool_calls: '[{' }),
    'must be JSON or JSON text',
  ],
  ['wrong_type', 'tools', { ...chat(user('a'), assistant('b')), tools: 3 }, 'tools must be a list, found the number 3'],
  [
    'wrong_type',
    'output',
    { instruction: 'a', output: { x: 1 } },
    'output must be text, found an object; write it as text',
  ],
  [
    'wrong_type',
    'history[0]',
    { instruction: 'a', output: 'b', history: [['h']] },
    'history[0] must be a pair of question and answer',
  ],
  ['unknown_role', 'messages[0].role', chat({ role: 'human', content: 'a' }), '"human", which is no role'],
  [
    'unknown_role',
    'conversations[0].from',
    { conversations: [{ from: 'toString', value: 'a' }] },
    '"toString", which is no role',
  ],
  ['empty_content', 'messages[1].content', chat(user('a'), assistant(' \n')), 'messages[1].content is empty'],
  [
    'empty_content',
    'messages[0].content',
    chat({ role: 'system', content: '' }, user('a'), assistant('b')),
    'messages[0].content is empty',
  ],
  ['empty_content', 'instruction', { instruction: '', input: '', output: 'b' }, 'instruction is empty'],
  ['empty_content', 'answer', { question: 'a', answer: '', context: 'x' }, 'answer is empty'],
  ['empty_content', 'question', { question: '', answer: 'b', context: 'x' }, 'question is empty'],
  ['invalid_utf8', 'messages[0].content', chat(user('\ud83d'), assistant('b')), 'half a surrogate pair'],
  [
    'bad_turn_order',
    'messages[1]',
    chat(user('a'), user('b'), assistant('c')),
    'messages[1] is a user turn out of order: it follows a user turn',
  ],
  [
    'bad_turn_order',
    'messages[2]',
    chat(user('a'), assistant('b'), assistant('c')),
    'is an assistant turn out of order: it follows an assistant turn',
  ],
  ['bad_turn_order', 'messages[0]', chat(assistant('a')), 'no user turn stands before it'],
  [
    'bad_turn_order',
    'messages[1]',
    chat(user('a'), { role: 'system', content: 's' }, assistant('b')),
    'it must be the first',
  ],
  [
    'tool_result_without_call',
    'messages[1]',
    chat(user('a'), { role: 'tool', content: '1' }, assistant('b')),
    'messages[1] is a tool turn, but no assistant turn with tool_calls stands before it; add one',
  ],
  [
    'tool_result_without_call',
    'messages[2].tool_call_id',
    chat(
      user('a'),
      { role: 'assistant', tool_calls: [call] },
      { role: 'tool', content: '1', tool_call_id: 'c2' },
      assistant('c'),
    ),
    'messages[2].tool_call_id is "c2", but the calls before it are c1; name one of them',
  ],
  [
    'tool_call_without_result',
    'messages[1]',
    chat(user('a'), { role: 'assistant', tool_calls: [call] }, user('b'), assistant('c')),
    'messages[1] has a tool call without a result: no tool turn answers its tool call; add one behind it',
  ],
  [
    'tool_call_without_result',
    'messages[1]',
    chat(user('a'), { role: 'assistant', tool_calls: [call] }, assistant('c')),
    'a tool call without a result',
  ],
  [
    'tool_call_without_result',
    'messages[1]',
    chat(
      user('a'),
      { role: 'assistant', tool_calls: [call, { ...call, id: 'c2' }] },
      { role: 'tool', content: '1', tool_call_id: 'c1' },
      assistant('c'),
    ),
    'no tool turn answers the tool call "c2"',
  ],
  ...badTools(),
  [
    'last_not_assistant',
    'messages[0]',
    chat(user('a')),
    "the last turn must be the assistant's, but messages[0] is a user turn",
  ],
  ['last_not_assistant', 'messages[2]', chat(user('a'), assistant('b'), user('c')), 'messages[2] is a user turn'],
  [
    'bad_weight',
    'messages[1].weight',
    chat(user('a'), assistant('b', { weight: 0.5 })),
    'must be 0 or 1, found the number 0.5',
  ],
  [
    'bad_weight',
    'messages[1].weight',
    chat(user('a'), assistant('b', { weight: true })),
    'must be 0 or 1, found the boolean true',
  ],
  [
    'bad_weight',
    'messages[0].weight',
    chat({ ...user('a'), weight: 1 }, assistant('b')),
    'only assistant turns have a weight',
  ],
  ['no_trainable_turn', '', chat(user('a'), assistant('b', { weight: 0 })), 'every assistant turn has weight 0'],
];

/** A chat whose tool definition has a flaw, and what is said of it. */
function badTools(): [string, string, unknown, string][] {
  const rows: [path: string, tool: unknown, sentence: string][] = [
    ['tools[0]', 'f', 'tools[0] must be an object, found the text "f"; write it as { … }'],
    ['tools[0].function', { type: 'function', function: 'f' }, 'must be an object, found the text "f"'],
    ['tools[0].function.name', { type: 'function', function: {} }, "must be the tool's name, found nothing; add it"],
    ['tools[0].name', { description: 'x' }, "must be the tool's name, found nothing"],
    ['tools[0].parameters', { name: 'f', parameters: 'x' }, 'must be a JSON schema, found the text "x"'],
    [
      'tools[0].parameters.type',
      { name: 'f', parameters: { type: 'string' } },
      'must be "object", found the text "string"',
    ],
    [
      'tools[0].parameters.properties',
      { name: 'f', parameters: { type: 'object', properties: [] } },
      'must be an object, found a list of 0',
    ],
    [
      'tools[0].parameters.required',
      { name: 'f', parameters: { type: 'object', required: 'x' } },
      'must be a list of names',
    ],
    [
      'tools[0].parameters.required',
      { name: 'f', parameters: { type: 'object', properties: { a: {} }, required: ['b'] } },
      'names "b", which is no property; add it to properties',
    ],
  ];
  return rows.map(([path, tool, sentence]) => [
    'bad_tool_schema',
    path,
    { ...chat(user('a'), assistant('b')), tools: [tool] },
    sentence,
  ]);
}

describe('why a row is dropped', () => {
  test.each(FAULTS)('%s at %j: %j', (code, path, row, sentence) => {
    const fault = faultOf(row);
    expect({ code: fault.code, path: fault.path }).toEqual({ code, path });
    expect(fault.message).toContain(sentence);
  });

  test('every code of rows is shown here, in the other tests of rows, or is the tokeniser’s', () => {
    const elsewhere = [
      'media_missing',
      'media_unreadable',
      'media_count_mismatch',
      'media_not_trained',
      'left_out_by_template',
      'mojibake',
      'trailing_space',
      'document_unreadable',
      'document_is_scan',
      'document_locked',
      'pii_dropped',
      'pii_blocked',
      'too_short',
      'too_long_text',
      'lang_excluded',
      'near_duplicate',
      'contaminated',
      'not_for_method',
      'prompts_differ',
      'empty_answer',
      'not_one_answer',
      'chosen_equals_rejected',
      'scores_contradict',
      'label_missing',
      'bad_label',
      'invalid_json',
      'too_large',
      'csv_missing_columns',
      'csv_too_many_columns',
      'csv_stray_quote',
      'csv_unterminated_quote',
      'too_long',
      'no_trainable_token',
    ];
    expect(new Set([...FAULTS.map(([code]) => code), ...elsewhere])).toEqual(new Set(DROP_CODES));
  });
});

function faultOf(row: unknown): RowFault {
  try {
    mapRow(row, 'auto', null);
  } catch (error) {
    if (error instanceof RowFault) return error;
    throw error;
  }
  throw new Error('The row was taken.');
}
