// Words of a row read from its bytes: the same as of its texts, and most rows are not parsed for it.
import { expect, test } from 'vitest';
import type { Content } from '../../src/data/mapping.ts';
import { RowWords } from '../../src/data/near/row-words.ts';
import { createWordHasher } from '../../src/data/near/words.ts';
import { ownTexts } from '../../src/data/row-texts.ts';
import { createRandom } from './given.ts';

const random = createRandom(31);
const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;

const PLAIN = [
  'plain Words',
  ' ',
  '. ',
  '\n',
  '\t"quoted"',
  '\\path\\',
  '/',
  '42',
  "don't",
  'Evaluate',
  'Evaluates',
  'A1'.repeat(40),
  `${'b'.repeat(70)}é`,
  'É',
  'ÜBER',
  'ß',
  'ДА',
  '你好',
  'ไทย',
  '👍🏽',
];
/** What depends on its neighbours, grows when it loses its case, or is written by its number. */
const ODD = ['ΟΔΟΣ', 'ΣΑΣ ', 'İstanbul', '𐐀𐐨', '\u0001', '\ud83d', '\udc4d', '𠀀', 'ǅ', 'ẞ'];
const textOf = (parts: readonly string[]) =>
  Array.from({ length: 1 + Math.floor(random() * 12) }, () => pick(parts)).join('');

function chatOf(parts: readonly string[]): Content {
  const roles = pick([['user'], ['system', 'user'], ['developer', 'user', 'assistant', 'tool']] as const);
  const messages = [...roles, 'assistant' as const].map((role) => ({ role, content: textOf(parts) }));
  return { messages };
}

function read(words: RowWords, content: Content) {
  const before = Buffer.from('the line before\n');
  const row = `{"id":"${'a'.repeat(32)}",${JSON.stringify(content).slice(1, -1)},"group":"${'b'.repeat(16)}","src":{"source":0,"line":1}}`;
  const line = Buffer.concat([before, Buffer.from(row)]);
  const texts: { words: number[]; isPrompt: boolean }[] = [];
  words.eachText(line, before.length, line.length, (found, isPrompt) => texts.push({ words: [...found], isPrompt }));
  return texts;
}

function expected(content: Content) {
  const hashWords = createWordHasher();
  return ownTexts(content).map(({ text, isPrompt }) => ({ words: [...hashWords(text)], isPrompt }));
}

test('chats and texts of any script are read without being parsed', () => {
  const words = new RowWords();
  for (let i = 0; i < 2_000; i++) {
    const content = random() < 0.2 ? { text: textOf(PLAIN) } : chatOf(PLAIN);
    expect(read(words, content)).toEqual(expected(content));
  }
  expect(words.parsedRows).toBe(0);
});

test('whatever else there is gives the same words, too', () => {
  const words = new RowWords();
  for (let i = 0; i < 2_000; i++) {
    const content = chatOf([...PLAIN, ...ODD]);
    expect(read(words, content)).toEqual(expected(content));
  }
  const call = {
    role: 'assistant',
    content: '',
    tool_calls: '[{"name":"look_up"}]',
    reasoning_content: 'Hm. "Look"',
  } as const;
  const asked = [{ role: 'user', content: 'Where?' } as const];
  for (const content of [
    { messages: [...asked, call] },
    { prompt: asked, chosen: { role: 'assistant' as const, content: 'Here' }, rejected: call },
    { prompt: asked, completion: call, label: true },
    { messages: [...asked, { role: 'assistant' as const, content: 'x', weight: 0 as const }, ...asked], tools: '[]' },
  ])
    expect(read(words, content as Content)).toEqual(expected(content as Content));
  expect(words.parsedRows).toBeGreaterThan(500);
});
