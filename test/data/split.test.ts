// The split by hash: stable, by group, and never empty where there are groups enough.
import { expect, test } from 'vitest';
import { createEdges, decideMoves, fractionOf, noteGroup, type Shares, splitAt } from '../../src/data/split.ts';

const shares = (test: number, validation: number): Shares => ({ test, validation, salt: 's' });

/** Places groups with these fractions and gives the moves as `from>to:group`. */
function movesOf(fractions: number[], wanted: Shares): string[] {
  const edges = createEdges();
  for (const fraction of fractions) noteGroup(edges, splitAt(fraction, wanted), { group: `g${fraction}`, fraction });
  return decideMoves(edges, wanted).map(({ group, from, to }) => `${from}>${to}:${group}`);
}

test('a group stands where its hash says, evenly spread, and elsewhere under another salt', () => {
  expect(fractionOf('a', 'anneal')).toBe(fractionOf('a', 'anneal'));
  expect(fractionOf('a', 'anneal')).not.toBe(fractionOf('a', 'other'));
  const inTest = Array.from({ length: 20_000 }, (_, i) => fractionOf(`g${i}`, 'anneal')).filter(
    (f) => splitAt(f, shares(0.1, 0.05)) === 'test',
  );
  // 2000 expected, standard deviation 42.
  expect(Math.abs(inTest.length - 2000)).toBeLessThan(200);
});

test.each([
  ['nothing moves when every split has a group', [0.05, 0.12, 0.5], shares(0.1, 0.05), []],
  [
    'test and validation take the smallest of train',
    [0.9, 0.4, 0.3, 0.5],
    shares(0.1, 0.05),
    ['train>test:g0.3', 'train>validation:g0.4'],
  ],
  ['train is not emptied', [0.4, 0.3], shares(0.1, 0.05), ['train>test:g0.3']],
  ['one group stays where it trains', [0.3], shares(0.1, 0.05), []],
  ['train takes the largest of the held-out', [0.1, 0.2, 0.3], shares(0.5, 0), ['test>train:g0.3']],
  [
    'validation takes from test when train has one group only',
    [0.01, 0.02, 0.5],
    shares(0.1, 0.05),
    ['test>validation:g0.01'],
  ],
  ['a split that is not wanted stays empty', [0.01, 0.5], shares(0.1, 0), []],
  [
    'only the edges of many groups are needed',
    Array.from({ length: 50 }, (_, i) => (20 + i) / 100),
    shares(0.1, 0.05),
    ['train>test:g0.2', 'train>validation:g0.21'],
  ],
])('%s', (_, fractions, wanted, moves) => {
  expect(movesOf(fractions, wanted)).toEqual(moves);
});
