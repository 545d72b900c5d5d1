// How a sweep's budget is dealt out.
import { expect, test } from 'vitest';
import { freeOf, shareOf } from '../../src/workflows/policies/purse.ts';

const idle = (used = 0) => ({ used, allotted: null });

test.each([
  ['all of it to one alone', 100, [idle()], 1, 100],
  ['a half to the first of two', 100, [idle(), idle()], 2, 50],
  ['the rest to the second', 100, [{ used: 0, allotted: 50 }, idle()], 1, 50],
  ['what another has left', 100, [idle(10), { used: 50, allotted: 50 }], 1, 40],
  ['nothing while another holds the rest', 100, [{ used: 0, allotted: 50 }, idle(50)], 1, null],
  ['nothing where too little is left to begin', 100, [idle(98.5)], 1, null],
  ['nothing where a step went beyond', 100, [idle(101)], 1, null],
])('%s', (_, max, accounts, waiting, share) => {
  expect(shareOf(max, accounts, waiting)).toBe(share);
});

test('together they are never allotted more than there is, whatever they use and in whatever order they stop', () => {
  let seed = 7;
  const random = () => {
    seed = (seed * 16807) % 2147483647;
    return seed / 2147483647;
  };
  const accounts = Array.from({ length: 5 }, (): { used: number; allotted: number | null } => idle());
  for (let turn = 0; turn < 500; turn++) {
    const one = accounts[Math.floor(random() * accounts.length)] as (typeof accounts)[number];
    if (one.allotted === null) {
      const share = shareOf(1000, accounts, Math.ceil(random() * 3));
      if (share !== null) one.allotted = one.used + share;
    } else {
      one.used += random() * (one.allotted - one.used);
      one.allotted = null;
    }
    expect(freeOf(1000, accounts)).toBeGreaterThan(-1e-6);
  }
  expect(freeOf(1000, accounts)).toBeLessThan(500);
});
