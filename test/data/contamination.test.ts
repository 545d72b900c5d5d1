// Contamination: what of an evaluation is found in a row, what is not held against it, and that memory has its limit.
import { expect, test } from 'vitest';
import { createContamination as createOfLines, type EvalText, evalTexts } from '../../src/data/contamination.ts';
import type { Content } from '../../src/data/mapping.ts';

const chat = (user: string, assistant = 'Sure, here it is.', system = 'You are kind.'): Content => ({
  messages: [
    { role: 'system', content: system },
    { role: 'user', content: user },
    { role: 'assistant', content: assistant },
  ],
});

/** Asked of a row as cleaning writes it. */
function createContamination(...options: Parameters<typeof createOfLines>) {
  const find = createOfLines(...options);
  return (content: Content) => {
    const line = Buffer.from(`{"id":"${'0'.repeat(32)}",${JSON.stringify(content).slice(1)}`);
    return find(line, 0, line.length);
  };
}

const QUESTION =
  'A train leaves the station at noon and travels sixty miles an hour towards the coast; when does it arrive there?';
const SHORT = 'What is the capital of Peru?';
const asEval = (evalName: string, rows: unknown[]): EvalText[] =>
  rows.flatMap((row) => evalTexts(row).map((text) => ({ evalName, ...text })));

const find = createContamination([
  ...asEval('gsm', [{ question: QUESTION, answer: '#### 42' }]),
  ...asEval('trivia', [{ question: SHORT, choices: ['Lima', 'Quito'], answer: 'Lima' }]),
]);

test.each([
  ['the question as it stands', chat(QUESTION), 'gsm'],
  [
    'in the answer, in other case and with other punctuation',
    chat('Quiz me', QUESTION.toUpperCase().replaceAll(/[;,]/g, ' —')),
    'gsm',
  ],
  [
    'thirteen words of it inside a longer text',
    chat(`Consider: ${QUESTION.split(' ').slice(2, 15).join(' ')} and so on.`),
    'gsm',
  ],
  ['a short question that is the same', chat('what is the capital of peru'), 'trivia'],
  ['twelve words of it', chat(QUESTION.split(' ').slice(0, 12).join(' ')), null],
  ['a short question with more around it', chat('Tell me, what is the capital of Peru? And of Chile?'), null],
  ['a short question as the answer', chat('Ask me something', SHORT), null],
  ['an answer of the evaluation', chat('Name a city', 'Lima'), null],
  ['the system message', chat('Hi there', 'Hello', QUESTION), null],
  ['nothing in common', chat('How do I bake bread without any yeast at home on a rainy day in late autumn?'), null],
])('%s', (_, row, evalName) => {
  expect(find(row)?.evalName ?? null).toBe(evalName);
});

test('n can be shorter', () => {
  const findEight = createContamination(asEval('gsm', [{ question: QUESTION }]), 8);
  expect(findEight(chat(QUESTION.split(' ').slice(0, 8).join(' ')))).toEqual({ evalName: 'gsm' });
  expect(findEight(chat(QUESTION.split(' ').slice(0, 7).join(' ')))).toBeNull();
});

test('words that more than ten evaluation rows share are their template', () => {
  const template = 'Below is an instruction that describes a task, write a response that completes the request well:';
  const rows = (n: number) => Array.from({ length: n }, (_, i) => ({ instruction: `${template} number${i}` }));
  expect(createContamination(asEval('a', rows(10)))(chat(`${template} mine`))).toEqual({ evalName: 'a' });
  expect(createContamination(asEval('a', rows(11)))(chat(`${template} mine`))).toBeNull();
});

test('rows of any shape give their texts; system messages and tools do not', () => {
  const row = {
    tools: [{ function: { description: 'long' } }],
    messages: [
      { role: 'system', content: 'kind' },
      { role: 'user', content: 'q' },
      { role: 'assistant', content: 'a' },
    ],
    endings: ['x', 'y'],
    ctx: 'c',
    label: 1,
  };
  expect(evalTexts(row)).toEqual([
    { text: 'q', isPrompt: true },
    { text: 'a', isPrompt: false },
    { text: 'x', isPrompt: false },
    { text: 'y', isPrompt: false },
    { text: 'c', isPrompt: true },
  ]);
  expect(evalTexts({ conversations: [{ from: 'human', value: 'q' }] })).toEqual([{ text: 'q', isPrompt: true }]);
});

test('more words than are held are sampled, and passages are still found', () => {
  const textOf = (i: number) => Array.from({ length: 60 }, (_, j) => `t${i}w${j}`).join(' ');
  const texts = Array.from({ length: 400 }, (_, i) => ({ evalName: 'big', text: textOf(i), isPrompt: false }));
  const findSampled = createContamination(texts, 13, 4096);
  const hits = Array.from({ length: 400 }, (_, i) => findSampled(chat(textOf(i)))).filter((hit) => hit !== null).length;
  // 48 grams a text, one in 8 held: a text is missed once in 600.
  expect(hits).toBeGreaterThan(390);
  expect(findSampled(chat(textOf(1000)))).toBeNull();
});
