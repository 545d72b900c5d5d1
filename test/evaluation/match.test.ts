// When an answer counts as right.
import { describe, expect, test } from 'vitest';
import type { Row } from '../../src/contracts/rows.ts';
import { decideMatchKind, isMatch } from '../../src/evaluation/match.ts';
import { chooseRows, chooseShots } from '../../src/evaluation/shots.ts';

describe('match', () => {
  test.each([
    ['json', '{"a":1,"b":[2]}', '{ "b": [2], "a": 1 }', true],
    ['json', '{"a":1}', '{"a":"1"}', false],
    ['json', '{"a":1}', 'not JSON', false],
    ['exact', 'eye', ' eye\n', true],
    ['exact', 'eye', 'Eye', false],
    ['none', 'a', 'a', null],
    ['exact', 'a', null, null],
  ] as const)('%s: %s against %s', (kind, reference, output, right) => {
    expect(isMatch(kind, reference, output)).toBe(right);
  });

  test('auto: JSON objects, short answers, long texts', () => {
    expect(decideMatchKind('auto', ['{"a":1}', '[1]'])).toBe('json');
    expect(decideMatchKind('auto', ['42', 'yes'])).toBe('exact');
    expect(decideMatchKind('auto', ['word '.repeat(40), 'yes'])).toBe('none');
  });
});

describe('samples by hash', () => {
  const row = (i: number): Row => ({
    id: String(i).padStart(32, '0'),
    messages: [
      { role: 'user', content: `q${i}` },
      { role: 'assistant', content: JSON.stringify({ intent: `i${i % 3}` }) },
    ],
    group: '0'.repeat(16),
    src: { source: 0, line: i + 1 },
  });
  const many = Array.from({ length: 60 }, (_, i) => row(i));

  test('do not depend on the order of the rows', () => {
    expect(chooseRows(many.toReversed(), 10)).toEqual(chooseRows(many, 10));
    expect(chooseShots(many.toReversed(), 6, 'intent')).toEqual(chooseShots(many, 6, 'intent'));
  });

  test('take one example per stratum before a second', () => {
    const intents = chooseShots(many, 3, 'intent').map((r) => JSON.parse(r.messages[1]?.content ?? '').intent);
    expect(new Set(intents).size).toBe(3);
  });
});
