// The text by which rows are grouped is the same whether it is made of bytes, many at once or one by one, or of a decoded text.
import { expect, test } from 'vitest';
import { PlainBytes, plainText } from '../../src/data/range/plain-text.ts';
import { createRandom } from './given.ts';

const CHARACTERS = [
  'a',
  'Z',
  'm',
  'Q',
  '@',
  '[',
  '`',
  '{',
  '7',
  '.',
  ' ',
  ' ',
  '  ',
  '\n',
  '\t',
  '"',
  '\\',
  '\x7f',
  'é',
];

test.each([1, 2, 3])('of any text (seed %i)', (seed) => {
  const random = createRandom(seed);
  const plain = new PlainBytes();
  let simple = 0;
  for (let round = 0; round < 3_000; round++) {
    // Most texts have few kinds of characters, so that some have none that need more than lower case.
    const kinds = 1 + Math.floor(random() * CHARACTERS.length);
    const length = Math.floor(random() * (round % 100 === 0 ? 9_000 : 70));
    const text = Array.from({ length }, () => CHARACTERS[Math.floor(random() * kinds)]).join('');
    const json = Buffer.from(`x${JSON.stringify(text)}x`);
    const bytes = plain.of(json, 2, json.length - 2);
    if (text.includes('é')) expect(bytes).toBeNull();
    else expect(bytes?.toString('latin1')).toBe(plainText(text));
    if (/^[ -[\]-~]+$/.test(text) && !text.includes('  ')) simple++;
  }
  expect(simple).toBeGreaterThan(500);
});
