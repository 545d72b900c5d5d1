// Policies of rules: which code can have which, what is mended and how, what is let pass, and what fails the stage.
import { describe, expect, test } from 'vitest';
import { DROP_CODES, type DropCode } from '../../src/contracts/rows.ts';
import { POLICIES, policiesOf, type Rules, RulesSchema } from '../../src/contracts/rules.ts';
import { createRowMapper, type Mapping } from '../../src/data/mapping.ts';
import { holdsMojibake, mendMojibake } from '../../src/data/mojibake.ts';
import { requireNoErrors } from '../../src/data/rules.ts';

const user = (content: unknown) => ({ role: 'user', content });
const assistant = (content: unknown, more: object = {}) => ({ role: 'assistant', content, ...more });
const system = (content: string) => ({ role: 'system', content });
const chat = (...messages: unknown[]) => ({ messages });
const call = { id: 'c1', type: 'function', function: { name: 'f', arguments: '{}' } };

const map = (row: unknown, rules: Rules, more: Partial<Mapping> = {}) =>
  createRowMapper({ method: 'sft', shape: 'auto', system: null, rules, ...more })(row);

const fix = (...codes: DropCode[]): Rules => Object.fromEntries(codes.map((code) => [code, 'fix']));
const every: Rules = Object.fromEntries(
  DROP_CODES.filter((code) => policiesOf(code).includes('fix')).map((code) => [code, 'fix']),
);

describe('what is mended', () => {
  const cases: [name: string, codes: DropCode[], row: object, messages: object[]][] = [
    [
      'a number and a truth value as text',
      ['wrong_type'],
      chat(user(42), assistant(true)),
      [user('42'), assistant('true')],
    ],
    [
      'turns in JSON text',
      ['wrong_type'],
      chat(JSON.stringify(user('a')), JSON.stringify(assistant('b'))),
      [user('a'), assistant('b')],
    ],
    [
      'usual names of roles',
      ['unknown_role'],
      chat({ role: 'Human', content: 'a' }, { role: 'bot', content: 'b' }),
      [user('a'), assistant('b')],
    ],
    [
      'usual names in ShareGPT',
      ['unknown_role'],
      {
        conversations: [
          { from: 'Human', value: 'a' },
          { from: 'model', value: 'b' },
        ],
      },
      [user('a'), assistant('b')],
    ],
    ['an empty turn', ['empty_content'], chat(system(' '), user('a'), assistant('b')), [user('a'), assistant('b')]],
    [
      'two turns of one role',
      ['bad_turn_order'],
      chat(user('a'), user('b'), assistant('c'), assistant('d')),
      [user('a\n\nb'), assistant('c\n\nd')],
    ],
    [
      'a system turn that comes late',
      ['bad_turn_order'],
      chat(user('a'), system('s'), assistant('b')),
      [system('s'), user('a'), assistant('b')],
    ],
    [
      'a second system turn',
      ['bad_turn_order'],
      chat(system('r'), user('a'), system('s'), assistant('b')),
      [system('r\n\ns'), user('a'), assistant('b')],
    ],
    [
      'greetings before the first question',
      ['bad_turn_order'],
      chat(system('s'), assistant('hello'), assistant('how are you?'), user('a'), assistant('b')),
      [system('s'), user('a'), assistant('b')],
    ],
    [
      'turns behind the answer',
      ['last_not_assistant'],
      chat(user('a'), assistant('b'), user('c')),
      [user('a'), assistant('b')],
    ],
    [
      'weights',
      ['bad_weight'],
      chat(
        { ...user('a'), weight: 0 },
        assistant('b', { weight: 'true' }),
        user('c'),
        assistant('d', { weight: false }),
      ),
      [user('a'), assistant('b', { weight: 1 }), user('c'), assistant('d', { weight: 0 })],
    ],
    [
      'white space behind an answer',
      ['trailing_space'],
      chat(user('a '), assistant('b \n')),
      [user('a '), assistant('b')],
    ],
    [
      'mojibake, in parts too',
      ['mojibake'],
      chat(user([{ type: 'text', text: 'cafÃ©' }]), assistant('donâ€™t ðŸ˜€')),
      [user('café'), assistant('don’t 😀')],
    ],
  ];
  test.each(cases)('%s', (_, codes, row, messages) => {
    const before = JSON.stringify(row);
    const mapped = map(row, fix(...codes));
    expect(mapped.content).toEqual({ messages });
    expect(mapped.fixed).toEqual(codes);
    expect(JSON.stringify(row)).toBe(before);
    // What is mended is as good as what was never wrong.
    expect(map(mapped.content, every)).toEqual({ content: mapped.content, fixed: [], warned: [] });
    for (const code of codes.filter((name) => name !== 'mojibake' && name !== 'trailing_space'))
      expect(() => map(row, {})).toThrow(expect.objectContaining({ code }));
  });

  test('several faults of a row count once each', () => {
    const row = chat(user(1), user(2), { role: 'bot', content: 'a ' }, user(''), user('b'), assistant('c'), user('d'));
    const { content, fixed } = map(row, every);
    expect(content).toEqual({ messages: [user('1\n\n2'), assistant('a'), user('b'), assistant('c')] });
    expect(fixed.toSorted()).toEqual([
      'bad_turn_order',
      'empty_content',
      'last_not_assistant',
      'trailing_space',
      'unknown_role',
      'wrong_type',
    ]);
  });

  test('turns behind an answer of a pair', () => {
    const row = { prompt: 'a', chosen: [assistant('b'), user('x')], rejected: [assistant('c')] };
    expect(map(row, fix('not_one_answer'), { method: 'dpo' }).content).toMatchObject({ chosen: assistant('b') });
  });

  test.each<[string, object, DropCode]>([
    ['a role that nobody uses', chat({ role: 'narrator', content: 'a' }, assistant('b')), 'unknown_role'],
    ['a question that is empty', { instruction: '', output: 'b' }, 'empty_content'],
    ['a chat of empty turns', chat(user('')), 'empty_content'],
    ['turns that hold calls', chat(user('a'), assistant('b'), assistant('', { tool_calls: [call] })), 'bad_turn_order'],
    ['an answer to nothing', chat(assistant('a')), 'bad_turn_order'],
    ['an object where text is wanted', chat(user({ x: 1 }), assistant('b')), 'wrong_type'],
    ['a weight of a half', chat(user('a'), assistant('b', { weight: 0.5 })), 'bad_weight'],
  ])('%s cannot be mended, and is dropped', (_, row, code) => {
    expect(() => map(row, every)).toThrow(expect.objectContaining({ code }));
  });
});

describe('what is not taken for what it is not', () => {
  test('an answer with a verdict is not learned unasked; one with a topic is', () => {
    const judged = { prompt: 'a', completion: 'b', label: false };
    expect(() => map(judged, {})).toThrow(
      'the row is an answer with a label, and `train.method: sft` learns every answer',
    );
    expect(() => map({ ...chat(user('a'), assistant('b')), kto_tag: true }, {})).toThrow('set `train.method: kto`');
    expect(() => map(judged, {})).toThrow('or the source’s `shape: prompt-completion` to learn the unwanted ones too');
    expect(map({ ...judged, label: 'billing' }, {}).content).toHaveProperty('messages');
    expect(map(judged, {}, { shape: 'prompt-completion' }).content).toHaveProperty('messages');
  });

  test('one message of a tree is not a text', () => {
    const message = { message_id: '1', parent_id: null, text: 'a?', role: 'prompter' };
    expect(() => map(message, {})).toThrow('the row is one message of a chat, and a row must be a whole one');
  });

  test('a list of rows in an object is no row', () => {
    expect(() => map({ tickets: [{ question: 'a', answer: 'b' }], next_page: null }, {})).toThrow(
      'the row is an object around a list of rows, `tickets`; write the list alone, or each of its rows on a line of its own',
    );
  });
});

describe('what is let pass', () => {
  test.each<[DropCode, object]>([
    ['bad_turn_order', chat(user('a'), user('b'), assistant('c'))],
    ['empty_content', chat(system(''), user('a'), assistant('c'))],
    ['last_not_assistant', chat(user('a'), assistant('b'), user('c'))],
    ['tool_result_without_call', chat(user('a'), { role: 'tool', content: '1' }, assistant('c'))],
    [
      'tool_call_without_result',
      chat(user('a'), assistant('', { tool_calls: JSON.stringify([call]) }), assistant('c')),
    ],
    ['trailing_space', chat(user('a'), assistant('b '))],
    ['mojibake', chat(user('Ã©'), assistant('b'))],
  ])('%s: the row stays as it is, and is told of', (code, row) => {
    const { content, warned, fixed } = map(row, { [code]: 'warn' });
    expect(content).toEqual(row);
    expect(warned.map((fault) => fault.code)).toEqual([code]);
    expect(fixed).toEqual([]);
  });

  test('a tool definition with a flaw', () => {
    const row = { ...chat(user('a'), assistant('b')), tools: [{ name: 'f' }, { name: 'f' }] };
    const { warned } = map(row, { bad_tool_schema: 'warn' });
    expect(warned[0]?.message).toBe('tools[1] is another tool of the name "f"; rename one');
  });

  test('a row without any answer is never kept', () => {
    expect(() => map(chat(user('a')), { last_not_assistant: 'warn' })).toThrow('no turn is the assistant’s');
  });
});

describe('which policies there are', () => {
  test('each code can be an error or quarantined; the others only where a row can be mended or trained on', () => {
    for (const code of DROP_CODES) {
      expect(policiesOf(code)).toEqual(expect.arrayContaining(['error', 'quarantine']));
      for (const policy of POLICIES)
        expect(RulesSchema.safeParse({ [code]: policy }).success).toBe(policiesOf(code).includes(policy));
    }
    const refused = RulesSchema.safeParse({ missing_field: 'fix' });
    expect(refused.error?.issues[0]?.message).toBe('must be error or quarantine');
  });

  test('errors fail the stage at its end, all at once', () => {
    const rules: Rules = { wrong_type: 'error', missing_field: 'error', empty_content: 'fix' };
    const dropped = { wrong_type: 12, missing_field: 1, empty_content: 3 };
    expect(() => requireNoErrors(rules, dropped, { wrong_type: [4, 9, 11, 20] })).toThrow(
      'Rows break rules that `data.rules` make errors: wrong_type 12 (first lines 4, 9, 11), missing_field 1; mend them',
    );
    expect(() => requireNoErrors(rules, { empty_content: 3 }, {})).not.toThrow();
  });
});

test.each([
  ['cafÃ©', 'café'],
  ['Ã¼ber die StraÃŸe', 'über die Straße'],
  ['â€œquotedâ€\u009d â€” 5 â‚¬', '“quoted” — 5 €'],
  ['Â£5 Â©', '£5 ©'],
  ['ï»¿start', '\ufeffstart'],
  ['ðŸ‘\u008d', '👍'],
])('mojibake %j was %j', (broken, mended) => {
  expect(mendMojibake(broken)).toBe(mended);
  expect(holdsMojibake(broken)).toBe(true);
});

test.each(['café', '“LIBERTÉ”', 'MAÇÃ” fim', 'naïve', 'Ångström', '日本語', 'Ã', 'Â', 'â€', '10 €', '🙂'])(
  '%j is as it should be',
  (text) => {
    expect(holdsMojibake(text)).toBe(false);
    expect(mendMojibake(text)).toBe(text);
  },
);
