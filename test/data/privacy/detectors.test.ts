// Measures precision and recall of every detector on the labelled corpus; a finding counts when type and place are exact.
import { expect, test } from 'vitest';
import { PII_TYPES, type PiiType, PrivacySchema } from '../../../src/contracts/privacy-rules.ts';
import { createDetector } from '../../../src/data/privacy/detector.ts';
import { type Labelled, readCorpus } from './corpus/corpus.ts';

const corpus = readCorpus();
const detect = createDetector(PrivacySchema.parse({}), () => true);
const DETECTED = PII_TYPES.filter((type) => type !== 'person' && type !== 'address');

interface Score {
  found: number;
  missed: string[];
  wrong: string[];
}

function scoreOf(type: PiiType, items: readonly Labelled[]): Score {
  const score: Score = { found: 0, missed: [], wrong: [] };
  for (const { text, wanted } of items) {
    const got = detect(text).map((finding) => `${finding.type}@${finding.start}-${finding.end}`);
    const isOfType = (place: string) => place.startsWith(`${type}@`);
    score.found += wanted.filter((place) => isOfType(place) && got.includes(place)).length;
    if (wanted.some((place) => isOfType(place) && !got.includes(place))) score.missed.push(text);
    if (got.some((place) => isOfType(place) && !wanted.includes(place))) score.wrong.push(text);
  }
  return score;
}

test('the corpus is large enough to say something', () => {
  expect(corpus.length).toBeGreaterThan(900);
  expect(corpus.filter(({ wanted }) => wanted.length === 0).length).toBeGreaterThan(200);
  for (const type of DETECTED)
    expect(corpus.flatMap(({ wanted }) => wanted).filter((place) => place.startsWith(type)).length).toBeGreaterThan(70);
});

test.each(DETECTED)('%s: precision and recall of 0.97 and more', (type) => {
  const { found, missed, wrong } = scoreOf(type, corpus);
  expect(found / (found + wrong.length), `precision; wrong:\n${wrong.join('\n')}`).toBeGreaterThanOrEqual(0.97);
  expect(found / (found + missed.length), `recall; missed:\n${missed.join('\n')}`).toBeGreaterThanOrEqual(0.97);
});

test('every sentence by hand is judged exactly as it is marked', () => {
  const wrong = corpus
    .filter(({ origin }) => origin.endsWith('.txt'))
    .filter(({ text, wanted }) => {
      const got = detect(text).map(({ type, start, end }) => `${type}@${start}-${end}`);
      return got.join() !== wanted.join();
    });
  expect(wrong.map(({ text }) => text)).toEqual([]);
});

test.each([
  ['one digit of a card', '4111 1111 1111 1112'],
  ['one digit of an IBAN', 'DE89 3704 0044 0532 0130 01'],
  ['two digits of an Aadhaar number', '2341 3241 2346'],
  ['the letter of a DNI', '12345678Y'],
  ['the last letter of a codice fiscale', 'RSSMRA85M01H501R'],
  ['a digit of a tax id', '86 095 742 718'],
  ['a digit of a PESEL', '44051401358'],
  ['a digit of a CPF', '111.444.777-36'],
  ['the key of a NIR', '2 55 08 14 168 025 39'],
  ['the last character of a resident id', '110105194912310021'],
])('no id any more: %s', (_, text) => {
  expect(detect(`id ${text} end`)).toEqual([]);
});

test.each([
  ...['1', '@', 'a1', '+1 ', 'A1-', ':', '1.', 'eyJ', '://a:', 'DE89 ', '-----BEGIN PRIVATE KEY-----', 'sk-a-'],
  ...['AB12 ', '1 2 3 4 5 6 7 8 9 ', 'token=', 'password: a1', '2000::', '000-'],
])('200 kB of %j take linear time: quadratic time would be minutes', (hostile) => {
  expect(detect(hostile.repeat(Math.ceil(200_000 / hostile.length)))).toEqual([]);
});

test.each(['a@b.io ', '+14155552671, ', '4111111111111111 ', 'AKIAIOSFODNN7EXAMPLE '])(
  '%s in great number is found each time',
  (value) => {
    expect(detect(value.repeat(2_000))).toHaveLength(2_000);
  },
);

test('a row of as many findings as it can hold has them all', () => {
  expect(detect('a@b.io '.repeat(150_000))).toHaveLength(150_000);
});
