// Columns of a source: templates, names of turns and roles, and columns that are taken out before anything else sees them.
import { describe, expect, test } from 'vitest';
import { parseSpec } from '../../src/contracts/spec.ts';
import { requireColumns } from '../../src/data/columns/columns.ts';
import { createDropper, createPreviewer } from '../../src/data/columns/drop.ts';
import { createRowMapper, isPlainMapping, type Mapping } from '../../src/data/mapping.ts';

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string, more: object = {}) => ({ role: 'assistant', content, ...more });

const map = (row: unknown, more: Partial<Mapping>) =>
  createRowMapper({ method: 'sft', shape: 'auto', system: null, ...more })(row).content;

describe('what columns make of a row', () => {
  const cases: [name: string, columns: Mapping['columns'], row: object, content: object][] = [
    [
      'text around columns',
      { user: 'Q: {{ q }}!', assistant: '{{a}}' },
      { q: 'x', a: 'y', user: 'not this' },
      { messages: [user('Q: x!'), assistant('y')] },
    ],
    [
      'numbers and objects as text',
      { user: '{{q}}', assistant: '{{a}}' },
      { q: 7, a: { x: [1] } },
      { messages: [user('7'), assistant('{"x":[1]}')] },
    ],
    [
      'sections and columns that may be empty',
      { system: '{{s?}}', user: '{{q}}{{#c}}\n\nContext: {{c}}{{/c}}', assistant: '{{a}}' },
      { q: 'x', c: '', a: 'y' },
      { messages: [user('x'), assistant('y')] },
    ],
    [
      'a section that is there',
      { user: '{{q}}{{#c}}\n\nContext: {{c}}{{/c}}', assistant: '{{a}}' },
      { q: 'x', c: 'z', a: 'y' },
      { messages: [user('x\n\nContext: z'), assistant('y')] },
    ],
    [
      'values inside of values, as SQuAD has them',
      { user: '{{context}}\n{{question}}', assistant: '{{answers.text[0]}}' },
      { context: 'c', question: 'q', answers: { text: ['a', 'b'] } },
      { messages: [user('c\nq'), assistant('a')] },
    ],
    [
      'a column whose name looks like a path',
      { user: '{{a.b}}', assistant: '{{c d}}' },
      { 'a.b': 'x', a: { b: 'wrong' }, 'c d': 'y' },
      { messages: [user('x'), assistant('y')] },
    ],
    [
      'lists as JSON text, as CSV has them',
      { messages: '{{conv}}', tools: '{{t?}}' },
      { conv: JSON.stringify([user('x'), assistant('y')]), t: '' },
      { messages: [user('x'), assistant('y')] },
    ],
    [
      'history',
      { history: '{{h}}', user: '{{q}}', assistant: '{{a}}' },
      { h: [['m', 'n']], q: 'x', a: 'y' },
      { messages: [user('m'), assistant('n'), user('x'), assistant('y')] },
    ],
    [
      'prompt and completion, of which only the second is learned',
      { prompt: '{{p}}', completion: '{{c}}' },
      { p: [user('x'), assistant('y'), user('z')], c: 'w' },
      { messages: [user('x'), assistant('y', { weight: 0 }), user('z'), assistant('w')] },
    ],
    ['text', { text: '# {{title}}\n{{body}}' }, { title: 't', body: 'b' }, { text: '# t\nb' }],
  ];
  test.each(cases)('%s', (_, columns, row, content) => {
    expect(map(row, { columns, shape: 'auto' })).toEqual(content);
  });

  test('pairs and judged answers', () => {
    const pair = { user: '{{q}}', chosen: '{{good}}', rejected: '{{bad}}' };
    expect(map({ q: 'x', good: 'y', bad: 'z' }, { method: 'dpo', columns: pair })).toEqual({
      prompt: [user('x')],
      chosen: assistant('y'),
      rejected: assistant('z'),
    });
    const judged = { system: 's', user: '{{q}}', assistant: '{{a}}', label: '{{ok}}' };
    expect(map({ q: 'x', a: 'y', ok: 'yes' }, { method: 'kto', columns: judged })).toEqual({
      prompt: [{ role: 'system', content: 's' }, user('x')],
      completion: assistant('y'),
      label: true,
    });
  });

  test.each([
    [{ q: 'x' }, 'a', 'a is missing, and `columns.assistant` needs it; the row has q: correct `columns`, or add it'],
    [
      { q: 'x', a: null },
      'a',
      'a is empty, and `columns.assistant` needs it; fill it, or write {{a?}} where it may be empty',
    ],
    [
      { q: ' ', a: 'y' },
      'q',
      'q is empty, and `columns.user` needs it; fill it, or write {{q?}} where it may be empty',
    ],
  ])('%j lacks %s', (row, path, message) => {
    const columns = { user: 'Q: {{q}}', assistant: '{{a}}' };
    expect(() => map(row, { columns })).toThrow(expect.objectContaining({ code: 'missing_field', path, message }));
  });

  test('a table without a column is refused as a whole, naming the columns there are', () => {
    const columns = { user: '{{question}}{{#context}}{{context}}{{/context}}', assistant: '{{answers.text[0]}}' };
    expect(() => requireColumns(columns, ['id', 'q', 'answers'], 'faq.csv')).toThrow(
      'faq.csv has no column `question`, which `columns.user` names; it has id, q, answers. Correct `columns`.',
    );
    expect(() => requireColumns(columns, ['question', 'answers'], 'faq.csv')).not.toThrow();
    expect(() => requireColumns(columns, ['question'], 'faq.csv')).toThrow('no column `answers.text[0]`');
  });
});

describe('names of turns and roles', () => {
  test('fields, roles and weights of a source’s own', () => {
    const row = {
      dialog: [
        { speaker: 'customer', says: 'a' },
        { speaker: 'agent', says: 'b', learn: false },
        { speaker: 'customer', says: 'c' },
        { speaker: 'agent', says: 'd', learn: true },
      ],
    };
    const content = map(row, {
      columns: { messages: '{{dialog}}' },
      turns: { role: 'speaker', content: 'says', weight: 'learn' },
      roles: { customer: 'user', agent: 'assistant' },
    });
    expect(content).toEqual({
      messages: [user('a'), assistant('b', { weight: 0 }), user('c'), assistant('d', { weight: 1 })],
    });
  });

  test('turns as JSON text, too', () => {
    const row = {
      messages: JSON.stringify([
        { role: 'me', content: 'a' },
        { role: 'it', content: '[b]' },
      ]),
    };
    const roles = { me: 'user', it: 'assistant' } as const;
    expect(map(row, { roles })).toEqual({ messages: [user('a'), assistant('[b]')] });
    expect(map({ prompt: '[a', completion: '[b]' }, { roles })).toEqual({ messages: [user('[a'), assistant('[b]')] });
  });

  test('roles alone, in ShareGPT’s turns and OpenAI’s', () => {
    const roles = { me: 'user', it: 'assistant', did: 'function_call', got: 'tool' } as const;
    const wanted = [
      user('a'),
      assistant('', { tool_calls: '[{"type":"function","function":{"name":"f"}}]' }),
      { role: 'tool', content: '1' },
      assistant('b'),
    ];
    const turns = [
      ['me', 'a'],
      ['did', '{"name":"f"}'],
      ['got', '1'],
      ['it', 'b'],
    ];
    const shareGpt = { conversations: turns.map(([from, value]) => ({ from, value })) };
    const openAi = { messages: turns.map(([role, content]) => ({ role, content })) };
    expect(map(shareGpt, { roles })).toEqual({ messages: wanted });
    expect(map(openAi, { roles })).toEqual({ messages: wanted });
    expect(() => map(shareGpt, { roles: { me: 'user' } })).toThrow('conversations[1].from is "did", which is no role');
  });
});

test('a fault is told in the names of the source', () => {
  const [columns, turns] = [{ messages: '{{dialog}}' }, { role: 'who', content: 'says', weight: null }];
  const roles = { customer: 'user', shop: 'assistant' } as const;
  const faultOf = (...dialog: object[]) => {
    try {
      return map({ dialog }, { columns, turns, roles });
    } catch (error) {
      return error;
    }
  };
  const [asked, answered] = [
    { who: 'customer', says: 'a' },
    { who: 'shop', says: '' },
  ];
  expect(faultOf(asked, { who: 'elf', says: 'b' })).toMatchObject({
    ...{ code: 'unknown_role', path: 'dialog[1].who' },
    message: expect.stringContaining('dialog[1].who is "elf", which is no role'),
  });
  expect(faultOf(asked, answered)).toMatchObject({ code: 'empty_content', path: 'dialog[1].says' });
  expect(faultOf(answered)).toMatchObject({ message: expect.stringMatching(/^dialog\[0\].says is empty/) });
  expect(faultOf(asked)).toMatchObject({ code: 'last_not_assistant', path: 'dialog[0]' });
});

describe('dropped columns', () => {
  const secret = 'anna@example.org';
  const row = {
    id: 1,
    email: secret,
    meta: { email: secret, plan: 'x' },
    messages: [{ ...user('a'), email: secret }, assistant('b')],
  };
  const dropColumns = ['email', 'meta.email', 'messages.email', 'nothing'];

  test('are taken out by name and by path, through lists, and the row itself stays', () => {
    const dropped = createDropper(dropColumns)(row);
    expect(dropped).toEqual({ id: 1, meta: { plan: 'x' }, messages: [user('a'), assistant('b')] });
    expect(row.meta.email).toBe(secret);
  });

  test('nothing of them stands in a preview or a sentence', () => {
    const preview = createPreviewer(dropColumns);
    expect(preview({ value: row, text: JSON.stringify(row) })).not.toContain(secret);
    expect(preview({ text: `{"email":"${secret}"` })).toBe(
      '(not shown, because `data.dropColumns` cannot be taken out of it)',
    );
    // V8 parses deeper nesting than it can write.
    const deep = JSON.parse(`{"a": ${'['.repeat(100_000)}${']'.repeat(100_000)}}`) as unknown;
    expect(preview({ value: deep, text: '' })).toContain('(not shown');
    expect(createPreviewer([])({ text: 'as it is' })).toBe('as it is');
    expect(() => map({ user: 'a', assistant: { email: secret } }, { dropColumns: ['assistant.email'] })).toThrow(
      'assistant must be text, found an object',
    );
    expect(() => map({ question: secret }, { dropColumns: ['question'] })).toThrow('the fields (none)');
  });

  test('only what stands in a row as it is may go the fast way', () => {
    const plain: Mapping = {
      method: 'sft',
      shape: 'auto',
      system: 's',
      columns: null,
      roles: {},
      rules: { wrong_type: 'fix' },
      dropColumns: [],
    };
    expect(isPlainMapping(plain)).toBe(true);
    for (const more of [
      { columns: { text: 'x' } },
      { roles: { a: 'user' as const } },
      { dropColumns: ['a'] },
      { rules: { mojibake: 'fix' as const } },
    ])
      expect(isPlainMapping({ ...plain, ...more })).toBe(false);
  });
});

describe('what a spec may say of columns', () => {
  const problemsOf = (columns: object | null, more: { shape?: string } & object = {}, train: object = {}) => {
    try {
      const { shape = 'auto', ...data } = more;
      parseSpec({ name: 'x', data: { sources: [{ uri: 'a.csv', columns, shape }], ...data }, train });
      return [];
    } catch (error) {
      const { problems } = error as { problems: { path: string; message: string }[] };
      return problems.map(({ path, message }) => `${path} ${message.replace(/, got .*/s, '')}`);
    }
  };

  test.each([
    [
      { user: '{{q}}' },
      {},
      {},
      'data.sources[0].columns must map user and assistant, or messages, or prompt and completion, or text',
    ],
    [
      { user: '{{q}}', assistant: '{{a}}' },
      {},
      { method: 'dpo' },
      'data.sources[0].columns must map chosen and rejected',
    ],
    [
      { user: '{{q', assistant: '{{a}}' },
      {},
      {},
      'data.sources[0].columns.user must write columns as {{name}}, with both pairs of braces',
    ],
    [{ user: '{{#q}}x', assistant: '{{a}}' }, {}, {}, 'data.sources[0].columns.user must close {{#q}} by {{/q}}'],
    [
      { user: 'x{{/q}}', assistant: '{{a}}' },
      {},
      {},
      'data.sources[0].columns.user must open {{#q}} before it is closed',
    ],
    [
      { user: '{{ }}', assistant: '{{a}}' },
      {},
      {},
      'data.sources[0].columns.user must name a column between {{ and }}',
    ],
    [
      { user: '{{q}}', assistant: '{{a}}' },
      { shape: 'alpaca' },
      {},
      'data.sources[0].shape must be auto with `columns`, which make the fields of another shape',
    ],
    [{ user: '{{q}}', assistant: '{{a}}' }, { shape: 'messages' }, {}, 'data.sources[0].columns must map messages'],
    [
      { messages: 'x {{m}}' },
      {},
      {},
      'data.sources[0].columns.messages must be one column such as {{name}}, because its value is a list',
    ],
    [
      { user: '{{mail}}', assistant: '{{a}}' },
      { dropColumns: ['mail'] },
      {},
      'data.sources[0].columns.user must not use `mail`, which `data.dropColumns` takes out',
    ],
    [
      null,
      { dropColumns: ['mail'], groupBy: 'mail' },
      {},
      'data.groupBy must not be in `data.dropColumns`, which are gone before rows are grouped',
    ],
  ])('%j with %j and %j', (columns, more, train, problem) => {
    expect(problemsOf(columns, more, train)).toContain(problem);
  });

  test('texts have no answers that could be right', () => {
    const evaluate = { gate: { metric: 'match' as const } };
    for (const source of [
      { uri: 'a', shape: 'text' as const },
      { uri: 'a', columns: { text: '{{t}}' } },
    ])
      expect(() => parseSpec({ name: 'x', data: { sources: [source] }, evaluate })).toThrow(
        '`evaluate.gate.metric` must be auto or loss with sources of text, which have no answers',
      );
  });

  test('a map that is right is taken', () => {
    expect(problemsOf({ user: '{{q}}', assistant: '{{a}}' })).toEqual([]);
    expect(problemsOf({ user: '{{q}}', chosen: '{{a}}', rejected: '{{b}}' }, { shape: 'preference' })).toEqual([]);
  });
});
