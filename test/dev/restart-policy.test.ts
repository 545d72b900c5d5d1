// Restarts of dead parts: at once at first, slower and slower, and not for ever.
import { expect, test } from 'vitest';
import { decideRestart } from '../../src/dev/restart-policy.ts';

const MINUTE = 60_000;

test.each([
  { name: 'first death', deaths: [0], step: { restart: true, afterMs: 200 } },
  { name: 'second within a minute', deaths: [0, 1_000], step: { restart: true, afterMs: 400 } },
  { name: 'fourth within a minute', deaths: [0, 1, 2, 3], step: { restart: true, afterMs: 1_600 } },
  { name: 'pause has a ceiling', deaths: [0, 1, 2, 3, 4, 5, 6, 7], step: { restart: true, afterMs: 5_000 } },
  { name: 'long after the last', deaths: [0, 1, 2, 5 * MINUTE], step: { restart: true, afterMs: 200 } },
  { name: '20 in ten minutes', deaths: everyHalfMinute(20), step: { restart: true, afterMs: 400 } },
  {
    name: '21 in ten minutes',
    deaths: everyHalfMinute(20).concat(9.9 * MINUTE),
    step: { restart: false, deaths: 21, windowMs: 10 * MINUTE },
  },
  {
    name: '21, the first long ago',
    deaths: [-20 * MINUTE, ...everyHalfMinute(20)],
    step: { restart: true, afterMs: 400 },
  },
])('$name', ({ deaths, step }) => {
  expect(decideRestart(deaths)).toEqual(step);
});

function everyHalfMinute(count: number): number[] {
  return Array.from({ length: count }, (_none, index) => index * 30_000);
}
