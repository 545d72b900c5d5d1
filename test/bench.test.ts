// The benches' own arithmetic: a bench that cannot see a fault proves nothing.
import { hostname } from 'node:os';
import { expect, test } from 'vitest';
import { stepMsOf } from '../bench/goodput.ts';
import { median, quantile, toMarkdown } from '../bench/report.ts';
import { findStaleReads } from '../bench/splitbrain.ts';

const claim = (number: number, from: [claim: number, step: number] | null) => ({
  number,
  resumeFrom: from && { claim: from[0], step: from[1] },
});

test('a claim may resume from the claim before it, and from what that one resumed from', () => {
  const claims = [claim(1, null), claim(2, [1, 20]), claim(3, [2, 30]), claim(4, [2, 30]), claim(5, [1, 20])];
  expect(findStaleReads(claims)).toEqual([]);
});

test.each([
  ['beyond the step at which it was taken over', [claim(1, null), claim(2, [1, 20]), claim(3, [1, 21])], 3],
  ['of a claim that nobody went on from', [claim(1, null), claim(2, null), claim(3, [1, 10])], 3],
  [
    'beyond a bound further back',
    [claim(1, null), claim(2, [1, 20]), claim(3, [1, 10]), claim(4, [3, 15]), claim(5, [1, 15])],
    5,
  ],
])('a state %s is a stale read', (_what, claims, number) => {
  expect(findStaleReads(claims).map((found) => found.number)).toEqual([number]);
});

test('step time is the median from end to end, so that a kill between does not count', () => {
  const ends = [0, 70, 140, 5_000, 5_072].map((t, i) => ({ t, ev: 'step', step: i }));
  expect(stepMsOf([{ t: 0, ev: 'plan' }, ...ends])).toBe(72);
});

test('quantiles', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(quantile([1, 2, 3, 4], 0.95)).toBe(4);
  expect(median([])).toBeNull();
});

test('the table names the command and the machine in words, not by name', () => {
  const report = { title: 'T', json: {}, columns: ['a', 'b'], rows: [['x', 1]], notes: ['n'] };
  const markdown = toMarkdown(report, 'npm run bench -- t');
  expect(markdown).toContain('| a | b |\n| --- | --- |\n| x | 1 |');
  expect(markdown).toMatch(/`npm run bench -- t` on \d+ cores .* Node \d+/);
  expect(markdown).not.toContain(hostname());
});
