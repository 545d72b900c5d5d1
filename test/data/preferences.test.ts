// The shapes that preferences come in: what a row becomes for each method, or why it is dropped; and that the books add up.
import { describe, expect, test } from 'vitest';
import { type JudgedRow, JudgedRowSchema, type PairRow, PairRowSchema, RowSchema } from '../../src/contracts/rows.ts';
import { assertBalanced, finishAccounts, requireTokenisedRows } from '../../src/data/accounts.ts';
import { createRowMapper, type Mapping } from '../../src/data/mapping.ts';
import { RowFault } from '../../src/data/turns.ts';
import { clean, createRandom, dataSpec, temporaryFolder } from './given.ts';

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string, more: object = {}) => ({ role: 'assistant', content, ...more });
const system = (content: string) => ({ role: 'system', content });
const said = (from: string, value: string) => ({ from, value });

const map = (row: unknown, method: Mapping['method'], more: Partial<Mapping> = {}) =>
  createRowMapper({ method, shape: 'auto', system: null, ...more })(row).content;

const call = { id: 'c1', type: 'function', function: { name: 'f', arguments: '{}' } };
const tool = { type: 'function', function: { name: 'f' } };
const PAIR = { prompt: [user('a')], chosen: assistant('good'), rejected: assistant('bad') };

test('a pair whose scores prefer the rejected answer is kept with a warning, and left out on request', () => {
  const take = (more: object, rules: Mapping['rules'] = {}) =>
    createRowMapper({ method: 'dpo', shape: 'auto', system: null, rules })({
      prompt: 'a',
      chosen: 'good',
      rejected: 'bad',
      ...more,
    });
  const worse = { score_chosen: 2, score_rejected: 7.5 };
  expect(take(worse)).toMatchObject({
    content: PAIR,
    warned: [
      { code: 'scores_contradict', message: expect.stringContaining('score_chosen is 2 and score_rejected is 7.5') },
    ],
  });
  expect(take({ 'chosen-rating': '3', 'rejected-rating': '4' }).warned.length).toBe(1);
  for (const fine of [
    { score_chosen: 7, score_rejected: 7 },
    { score_chosen: null, score_rejected: 3 },
    { score_chosen: 'good', score_rejected: 'bad' },
  ])
    expect(take(fine).warned).toEqual([]);
  expect(() => take(worse, { scores_contradict: 'quarantine' })).toThrow('so the scores prefer the other answer');
});

describe('what a pair becomes', () => {
  test.each<[string, object, object]>([
    ['texts', { prompt: 'a', chosen: 'good', rejected: 'bad' }, PAIR],
    [
      'messages after a prompt of messages',
      { prompt: [system('s'), user('a')], chosen: [assistant('good')], rejected: [assistant('bad')] },
      { ...PAIR, prompt: [system('s'), user('a')] },
    ],
    ['one message for an answer', { prompt: 'a', chosen: assistant('good'), rejected: assistant('bad') }, PAIR],
    [
      'dialogues, whose common beginning is the prompt',
      {
        chosen: [user('x'), assistant('y'), user('a'), assistant('good')],
        rejected: [user('x'), assistant('y'), user('a'), assistant('bad')],
      },
      { ...PAIR, prompt: [user('x'), assistant('y'), user('a')] },
    ],
    [
      'dialogues with their prompt and a score beside them, as UltraFeedback has them',
      {
        prompt: 'a',
        messages: [user('a'), assistant('good')],
        chosen: [user('a'), assistant('good')],
        rejected: [user('a'), assistant('bad')],
        score_chosen: 8,
      },
      PAIR,
    ],
    [
      'dialogues as text, as Anthropic writes them',
      {
        chosen: '\n\nHuman: x\n\nAssistant: y\n\nHuman: a\n\nAssistant: good',
        rejected: '\n\nHuman: x\n\nAssistant: y\n\nHuman: a\n\nAssistant: bad',
      },
      { ...PAIR, prompt: [user('x'), assistant('y'), user('a')] },
    ],
    ['such a dialogue as the prompt', { prompt: '\n\nHuman: a\n\nAssistant:', chosen: 'good', rejected: 'bad' }, PAIR],
    [
      'OpenAI’s form, with tools',
      {
        input: { messages: [user('a')], tools: [tool], parallel_tool_calls: true },
        preferred_output: [assistant('good')],
        non_preferred_output: [assistant('bad')],
      },
      { ...PAIR, tools: JSON.stringify([tool]) },
    ],
    [
      'ShareGPT’s form',
      { system: 's', conversations: [said('human', 'a')], chosen: said('gpt', 'good'), rejected: said('gpt', 'bad') },
      { ...PAIR, prompt: [system('s'), user('a')] },
    ],
    [
      'Alpaca’s form',
      { instruction: 'a', input: 'b', chosen: 'good', rejected: 'bad' },
      { ...PAIR, prompt: [user('a\nb')] },
    ],
    ['a question', { question: 'a', chosen: 'good', rejected: 'bad' }, PAIR],
    [
      'an answer that calls a tool',
      { prompt: 'a', chosen: [{ role: 'assistant', content: null, tool_calls: [call] }], rejected: 'bad' },
      { ...PAIR, chosen: assistant('', { tool_calls: JSON.stringify([call]) }) },
    ],
    [
      'weights left out',
      {
        prompt: [user('x'), assistant('y', { weight: 0 }), user('a')],
        chosen: [assistant('good', { weight: 1 })],
        rejected: 'bad',
      },
      { ...PAIR, prompt: [user('x'), assistant('y'), user('a')] },
    ],
  ])('%s', (_, row, pair) => {
    expect(map(row, 'dpo')).toEqual(pair);
    expect(map(row, 'reward')).toEqual(pair);
  });

  test('the spec’s system message is put before prompts that have none', () => {
    const row = { prompt: 'a', chosen: 'good', rejected: 'bad' };
    expect(map(row, 'dpo', { system: 'S' })).toMatchObject({ prompt: [system('S'), user('a')] });
    expect(map({ ...row, system: 's' }, 'dpo', { system: 'S' })).toMatchObject({ prompt: [system('s'), user('a')] });
  });

  test('its chosen answer makes a chat when the source is called `preference`', () => {
    const row = { prompt: [user('x'), assistant('y'), user('a')], chosen: 'good', rejected: 'bad' };
    expect(map(row, 'sft', { shape: 'preference' })).toEqual({
      messages: [user('x'), assistant('y', { weight: 0 }), user('a'), assistant('good')],
    });
  });

  test('with `sft` a row that brings a chat besides is that chat', () => {
    const row = { messages: [user('a'), assistant('good')], chosen: 'good', rejected: 'bad' };
    expect(map(row, 'sft')).toEqual({ messages: row.messages });
  });
});

describe('what a judged answer becomes', () => {
  const judged = (label: boolean) => ({ prompt: [user('a')], completion: assistant('b'), label });
  test.each<[string, object, object]>([
    ['texts', { prompt: 'a', completion: 'b', label: true }, judged(true)],
    ['messages', { prompt: [user('a')], completion: [assistant('b')], label: false }, judged(false)],
    ['a chat, whose last turn is judged', { messages: [user('a'), assistant('b')], label: false }, judged(false)],
    [
      'ShareGPT’s form as LLaMA-Factory has it',
      { conversations: [said('human', 'a'), said('gpt', 'b')], kto_tag: true },
      judged(true),
    ],
    ['Alpaca’s form', { instruction: 'a', input: '', output: 'b', kto_tag: false }, judged(false)],
    ['a question', { question: 'a', answer: 'b', label: 1 }, judged(true)],
  ])('%s', (_, row, expected) => {
    expect(map(row, 'kto')).toEqual(expected);
    expect(map(row, 'kto', { shape: 'kto' })).toEqual(expected);
  });

  test.each<[unknown, boolean]>([
    [true, true],
    [1, true],
    ['1', true],
    [' Good ', true],
    ['desirable', true],
    ['TRUE', true],
    [false, false],
    [0, false],
    ['-1', false],
    ['bad', false],
    ['undesirable', false],
    ['False', false],
  ])('the label %j', (label, wanted) => {
    expect(map({ prompt: 'a', completion: 'b', label }, 'kto')).toMatchObject({ label: wanted });
  });

  test('with `sft` a chat with a label is that chat', () => {
    expect(map({ messages: [user('a'), assistant('b')], label: 'sports' }, 'sft')).toEqual({
      messages: [user('a'), assistant('b')],
    });
  });
});

const pair = (chosen: unknown, rejected: unknown, more: object = {}) => ({ prompt: 'a', chosen, rejected, ...more });
const judge = (label: unknown, more: object = {}) => ({ prompt: 'a', completion: 'b', label, ...more });

const FAULTS: [method: Mapping['method'], code: string, path: string, row: unknown, sentence: string][] = [
  ['dpo', 'chosen_equals_rejected', 'chosen', pair('b', ' b\n'), 'the same answer, which prefers nothing'],
  [
    'dpo',
    'chosen_equals_rejected',
    'chosen[1]',
    pair([user('a'), assistant('b')], [user('a'), assistant('b')]),
    'chosen[1] and rejected[1] are the same answer',
  ],
  ['dpo', 'empty_answer', 'rejected', pair('b', ' \n'), 'rejected is empty; write the answer'],
  ['dpo', 'empty_answer', 'chosen[0].content', pair([assistant('')], 'b'), 'chosen[0].content is empty'],
  ['dpo', 'missing_field', 'rejected', { prompt: 'a', chosen: 'b' }, 'rejected is missing; add text'],
  ['dpo', 'missing_field', 'prompt', { chosen: 'b', rejected: 'c' }, 'prompt is missing; add text'],
  [
    'dpo',
    'missing_field',
    'non_preferred_output',
    { input: { messages: [user('a')] }, preferred_output: [assistant('b')] },
    'is missing',
  ],
  [
    'dpo',
    'missing_field',
    'input.messages',
    { input: {}, preferred_output: 'b', non_preferred_output: 'c' },
    'input.messages is missing',
  ],
  ['dpo', 'missing_field', 'chosen', pair([], 'b'), 'chosen is an empty list'],
  ['dpo', 'wrong_type', 'chosen', pair(3, 'b'), 'chosen must be text, found the number 3'],
  ['dpo', 'not_one_answer', 'chosen', pair([assistant('b'), user('c'), assistant('d')], 'e'), 'has 3 turns of its own'],
  [
    'dpo',
    'not_one_answer',
    'rejected',
    pair([user('a'), assistant('b')], [user('a'), assistant('c'), user('d'), assistant('e')]),
    'rejected has 3 turns of its own, and an answer is one',
  ],
  [
    'dpo',
    'prompts_differ',
    '',
    { chosen: [user('a'), assistant('b')], rejected: [user('x'), assistant('c')] },
    'chosen and rejected do not begin with the same turns; give both answers the same prompt',
  ],
  ['dpo', 'prompts_differ', '', pair([user('a'), assistant('b')], 'c'), 'do not begin with the same turns'],
  [
    'dpo',
    'prompts_differ',
    '',
    pair([user('x'), assistant('b')], [user('x'), assistant('c')]),
    'no turn that both answers begin with is the prompt',
  ],
  [
    'dpo',
    'bad_turn_order',
    'chosen',
    { prompt: [user('a'), assistant('b')], chosen: 'c', rejected: 'd' },
    'follows an assistant turn',
  ],
  [
    'dpo',
    'bad_turn_order',
    'rejected[1]',
    { chosen: [user('a'), assistant('b')], rejected: [user('a'), { role: 'user', content: 'c' }] },
    'rejected[1] is a user turn out of order: it follows a user turn',
  ],
  ['dpo', 'empty_content', 'prompt', pair('b', 'c', { prompt: '' }), 'prompt is empty'],
  [
    'dpo',
    'not_for_method',
    '',
    { messages: [user('a'), assistant('b')] },
    'is a chat, and `train.method: dpo` learns from pairs; add chosen and rejected, or set `train.method: sft`',
  ],
  [
    'reward',
    'not_for_method',
    '',
    { prompt: 'a', completion: 'b', label: true },
    'an answer with a label, and `train.method: reward` learns from pairs',
  ],
  ['dpo', 'unknown_shape', '', { text: 'a' }, 'use prompt, chosen and rejected'],
  [
    'sft',
    'not_for_method',
    '',
    pair('b', 'c'),
    'set `train.method` to dpo or reward, or the source’s `shape` to preference',
  ],
  ['kto', 'not_for_method', '', pair('b', 'c'), 'write each answer as a row with prompt, completion and label'],
  ['kto', 'label_missing', 'label', { prompt: 'a', completion: 'b' }, 'label is missing; add true for a wanted answer'],
  ['kto', 'label_missing', 'label', judge(null), 'label is missing'],
  ['kto', 'label_missing', 'label', judge(''), 'label is missing'],
  ['kto', 'bad_label', 'label', judge(0.5), 'label says neither yes nor no, found the number 0.5; write true'],
  ['kto', 'bad_label', 'label', judge({}), 'found an object'],
  ['kto', 'bad_label', 'kto_tag', { ...judge(undefined), kto_tag: 'maybe' }, 'kto_tag says neither'],
  ['kto', 'empty_answer', 'completion', judge(true, { completion: ' ' }), 'completion is empty'],
  ['kto', 'missing_field', 'completion', { prompt: 'a', label: true }, 'completion is missing; add the answer'],
  ['kto', 'last_not_assistant', 'messages[0]', { messages: [user('a')], label: true }, 'messages[0] is a user turn'],
  ['kto', 'unknown_shape', '', { text: 'a', label: 1 }, 'use prompt, completion and label'],
];

describe('why a row is dropped', () => {
  test.each(FAULTS)('%s: %s at %j: %j', (method, code, path, row, sentence) => {
    const fault = faultOf(row, method);
    expect({ code: fault.code, path: fault.path }).toEqual({ code, path });
    expect(fault.message).toContain(sentence);
  });
});

function faultOf(row: unknown, method: Mapping['method']): RowFault {
  try {
    map(row, method);
  } catch (error) {
    if (error instanceof RowFault) return error;
    throw error;
  }
  throw new Error('The row was taken.');
}

const json = JSON.stringify;
const lines = (n: number, write: (i: number) => object) =>
  Array.from({ length: n }, (_, i) => json(write(i))).join('\n');
const pairs = (n: number, from = 0) =>
  lines(n, (i) => ({ prompt: `question ${from + i}`, chosen: `yes ${i}`, rejected: `no ${i}` }));
const answers = (n: number, label = (i: number): unknown => i % 2 === 0) =>
  lines(n, (i) => ({ prompt: `question ${i}`, completion: `answer ${i}`, label: label(i) }));

describe('a whole source', () => {
  test('every row is kept, a duplicate or dropped, and pairs have the form of the contract', async () => {
    await using folder = await temporaryFolder();
    const content = [
      pairs(40),
      json({ prompt: 'question 0', chosen: 'yes 0', rejected: 'no 0' }),
      json({ prompt: 'x', chosen: 'same', rejected: 'same' }),
      json({ prompt: 'x', chosen: 'y' }),
      json({ question: 'a', answer: 'b' }),
      '{',
    ].join('\n');
    const { accounts, kept, quarantine } = await clean(folder, { 'a.jsonl': content }, {}, 'dpo');
    expect(accounts).toMatchObject({
      rowsIn: 45,
      kept: 40,
      duplicates: 1,
      dropped: { chosen_equals_rejected: 1, missing_field: 1, not_for_method: 1, invalid_json: 1 },
    });
    assertBalanced(accounts);
    expect(quarantine.map(({ line }) => line)).toEqual([42, 43, 44, 45]);
    for (const row of kept as unknown as PairRow[]) {
      expect(PairRowSchema.parse(row)).toEqual(row);
      expect(Object.keys(row)).toEqual(['id', 'prompt', 'chosen', 'rejected', 'group', 'src']);
    }
  });

  test('judged answers keep their label, and the same prompt stays on one side of the split', async () => {
    await using folder = await temporaryFolder();
    const twice = `${answers(60)}\n${lines(60, (i) => ({ prompt: `Question  ${i}`, completion: 'other', label: 'bad' }))}`;
    const { rows, kept } = await clean(folder, { 'a.jsonl': twice }, {}, 'kto');
    expect(kept).toHaveLength(120);
    for (const row of kept as unknown as JudgedRow[]) {
      expect(JudgedRowSchema.parse(row)).toEqual(row);
      expect(Object.keys(row)).toEqual(['id', 'prompt', 'completion', 'label', 'group', 'src']);
    }
    const sides = Object.values(rows).map((split) => new Set(split.map(({ group }) => group)));
    const shared = sides.flatMap((one, i) =>
      sides.slice(i + 1).flatMap((other) => [...one].filter((g) => other.has(g))),
    );
    expect(shared).toEqual([]);
  });

  test('a CSV file gives pairs and labels too', async () => {
    await using folder = await temporaryFolder();
    const csv = ['prompt,chosen,rejected', ...Array.from({ length: 30 }, (_, i) => `p${i},good ${i},bad ${i}`)].join(
      '\n',
    );
    expect((await clean(folder, { 'a.csv': csv }, {}, 'dpo')).accounts).toMatchObject({ rowsIn: 30, kept: 30 });
    const labels = ['prompt,completion,label', ...Array.from({ length: 30 }, (_, i) => `p${i},c${i},${i % 2}`)].join(
      '\n',
    );
    expect((await clean(folder, { 'b.csv': labels }, {}, 'kto')).accounts).toMatchObject({ rowsIn: 30, kept: 30 });
  });

  test('pairs are learned as chats when the spec says so', async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write('a.jsonl', pairs(40));
    const sources = [{ uri: path, shape: 'preference' as const }];
    const { kept } = await clean(folder, { 'a.jsonl': pairs(40) }, { sources });
    expect(kept).toHaveLength(40);
    expect(RowSchema.parse(kept[0]).messages).toEqual([user('question 0'), assistant('yes 0')]);
  });

  test.each([
    [
      'dpo',
      { 'a.jsonl': lines(40, (i) => ({ question: `q${i}`, answer: 'a' })) },
      /^No row of \S+a\.jsonl can be used with `train\.method: dpo` \(40 rows read, dropped: not_for_method 40\); the first: a\.jsonl line 1: the row is a chat.*or set `train\.method: sft`\.$/,
    ],
    [
      'sft',
      { 'a.jsonl': pairs(40) },
      /with `train\.method: sft` \(40 rows read, dropped: not_for_method 40\); the first: .* dpo or reward/,
    ],
    [
      'kto',
      { 'a.jsonl': answers(40, () => null) },
      /with `train\.method: kto` \(40 rows read, dropped: label_missing 40\)/,
    ],
    [
      'reward',
      { 'good.jsonl': pairs(40), 'bad.jsonl': lines(3, () => ({ prompt: 'a', chosen: 'b', rejected: 'b' })) },
      /^No row of \S+bad\.jsonl can be used .*chosen_equals_rejected 3/,
    ],
    [
      'kto',
      { 'a.jsonl': answers(40, () => true) },
      /^All 40 answers have the label true, and `train\.method: kto` learns the difference; add answers with the other label/,
    ],
    ['dpo', { 'a.jsonl': pairs(2) }, /^No row is left for the split validation .*add rows/],
  ] as const)('%s refuses %j', async (method, files, says) => {
    await using folder = await temporaryFolder();
    await expect(clean(folder, files, {}, method)).rejects.toMatchObject({
      kind: 'data_rejected',
      message: expect.stringMatching(says),
    });
  });

  test('rows that are all too long: the shortest is named', async () => {
    await using folder = await temporaryFolder();
    const { accounts, rows } = await clean(folder, { 'a.jsonl': pairs(30) }, {}, 'dpo');
    const rejected = Object.entries(rows).map(([split, its]) => {
      return { split: split as 'train', source: 0, code: 'too_long', rows: its.length, copies: its.length };
    });
    const ranges = [
      { rejected, shortestTooLong: 90 },
      { rejected: [], shortestTooLong: 95 },
    ];
    expect(() => requireTokenisedRows(finishAccounts(accounts, ranges), ranges, dataSpec({}).split)).toThrow(
      /^No row can be trained on \(30 rows read, .*too_long 30\); mend the sources or `data\.maxLength`\. The shortest that is too long has 90 tokens\.$/,
    );
  });
});

describe('rows made at random', () => {
  type Breaker = [code: string, row: (i: number) => object];
  const BREAKERS: Breaker[] = [
    ['chosen_equals_rejected', (i) => ({ prompt: `p${i}`, chosen: 'x', rejected: 'x ' })],
    ['empty_answer', (i) => ({ prompt: `p${i}`, chosen: 'x', rejected: '' })],
    ['missing_field', (i) => ({ prompt: `p${i}`, rejected: 'x' })],
    ['not_for_method', (i) => ({ prompt: `p${i}`, completion: 'x' })],
    ['prompts_differ', (i) => ({ chosen: [user(`p${i}`), assistant('x')], rejected: [user('q'), assistant('y')] })],
    ['unknown_role', (i) => ({ prompt: `p${i}`, chosen: [{ role: 'judge', content: 'x' }], rejected: 'y' })],
  ];
  const WRITERS: ((i: number) => object)[] = [
    (i) => ({ prompt: `p${i}`, chosen: 'x', rejected: 'y' }),
    (i) => ({ prompt: [user(`p${i}`)], chosen: [assistant('x')], rejected: [assistant('y')] }),
    (i) => ({ chosen: [user(`p${i}`), assistant('x')], rejected: [user(`p${i}`), assistant('y')] }),
    (i) => ({ chosen: `\n\nHuman: p${i}\n\nAssistant: x`, rejected: `\n\nHuman: p${i}\n\nAssistant: y` }),
    (i) => ({ conversations: [said('human', `p${i}`)], chosen: said('gpt', 'x'), rejected: said('gpt', 'y') }),
    (i) => ({
      input: { messages: [user(`p${i}`)] },
      preferred_output: [assistant('x')],
      non_preferred_output: [assistant('y')],
    }),
  ];

  test.each([1, 2, 3])(
    'seed %i: kept, duplicates (across shapes) and every code are as they were made',
    async (seed) => {
      await using folder = await temporaryFolder();
      const random = createRandom(seed);
      const pick = <T>(from: T[]): T => from[Math.floor(random() * from.length)] as T;
      const truth = { kept: 0, duplicates: 0, dropped: {} as Record<string, number> };
      const rows = Array.from({ length: 300 }, (_, i) => {
        const roll = random();
        if (roll < 0.3) {
          const [code, write] = pick(BREAKERS);
          truth.dropped[code] = (truth.dropped[code] ?? 0) + 1;
          return json(write(i));
        }
        const isCopy = roll < 0.4 && truth.kept > 0;
        const number = isCopy ? Math.floor(random() * truth.kept) : truth.kept;
        truth[isCopy ? 'duplicates' : 'kept']++;
        return json(pick(WRITERS)(number));
      });
      const { accounts, kept } = await clean(folder, { 'a.jsonl': rows.join('\n') }, {}, 'dpo');
      expect(accounts).toMatchObject({ rowsIn: 300, ...truth });
      expect(kept).toHaveLength(truth.kept);
    },
  );
});

describe('solutions with a label for each step, as TRL has them for process reward models', () => {
  const stepwise = (labels: unknown[], completions: unknown[] = ['3 + 4 = 7', '7 · 2 = 14']) => ({
    prompt: '(3 + 4) · 2?',
    completions,
    labels,
  });

  test('are wanted as a whole where every step is right, and chats only then', () => {
    const whole = assistant('3 + 4 = 7\n7 · 2 = 14');
    for (const shape of ['auto', 'stepwise'] as const) {
      const judge = { prompt: [user('(3 + 4) · 2?')], completion: whole };
      expect(map(stepwise([true, true]), 'kto', { shape })).toEqual({ ...judge, label: true });
      expect(map(stepwise([1, 0]), 'kto', { shape })).toEqual({ ...judge, label: false });
      expect(map(stepwise([true, true]), 'sft', { shape })).toEqual({ messages: [user('(3 + 4) · 2?'), whole] });
    }
  });

  test.each<[Mapping['method'], object, string, string, string]>([
    ['sft', stepwise([true, false]), 'not_for_method', '', 'step 2 of 2 is labelled wrong, and `train.method: sft`'],
    [
      'dpo',
      stepwise([true, true]),
      'not_for_method',
      '',
      '`train.method: dpo` learns from pairs; set `train.method: kto`',
    ],
    ['kto', stepwise([true]), 'label_missing', 'labels', 'found 1 for 2 steps'],
    ['kto', stepwise([true, 'maybe']), 'bad_label', 'labels[1]', 'labels[1] says neither yes nor no'],
    ['kto', stepwise([true, true], ['x', 5]), 'wrong_type', 'completions[1]', 'completions[1] must be text'],
    ['kto', stepwise([], []), 'missing_field', 'completions', 'completions is an empty list'],
  ])('%s: %j is dropped as %s', (method, row, code, path, message) => {
    expect(() => map(row, method)).toThrow(
      expect.objectContaining({ code, path, message: expect.stringContaining(message) }),
    );
  });
});
