// Which of several saved states is resumed, and what of warm state counts.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Admissible, findHere, newestOf, type SavedState } from '../../src/trainer/saved-state.ts';
import { deleteOtherWarmStates, sweepWarmStates, warmFolder } from '../../src/trainer/warm-state.ts';

const L = 'a'.repeat(64);
const warm = (claim: number, step: number, lineage = L): SavedState => ({
  source: 'warm',
  claim,
  step,
  lineage,
  folder: '/w',
});
const disk = (claim: number, step: number, lineage = L): SavedState => ({
  source: 'disk',
  claim,
  step,
  lineage,
  path: '/d',
});
const store = (claim: number, step: number, lineage = L): SavedState => ({
  ...{ source: 'store', claim, step, lineage, checkpoint: {} as never },
});
const admissible: Admissible = {
  chain: [
    { claim: 5, stepMax: Number.POSITIVE_INFINITY },
    { claim: 3, stepMax: 40 },
  ],
  lineages: [L],
  below: Number.POSITIVE_INFINITY,
  isWarmOk: () => true,
};

describe('where to resume', () => {
  test.each([
    ['the newest wins, wherever it is', [warm(5, 50), disk(5, 51), store(5, 45)], ['disk', 51]],
    ['warm state on a tie', [store(5, 50), disk(5, 50), warm(5, 50)], ['warm', 50]],
    ['the disk before the store on a tie', [store(5, 50), disk(5, 50)], ['disk', 50]],
    ['warm state of a claim that is not in the chain is left', [warm(4, 99), disk(5, 50)], ['disk', 50]],
    ['what an older claim did beyond the step that it was left at is left', [warm(3, 41), store(3, 40)], ['store', 40]],
    ['another lineage is left', [warm(5, 60, 'b'.repeat(64)), store(3, 30)], ['store', 30]],
    ['nothing fits', [warm(4, 10), disk(6, 10)], null],
  ] as [string, SavedState[], [string, number] | null][])('%s', (_name, states, expected) => {
    const newest = newestOf(states, admissible);
    expect(newest && [newest.source, newest.step]).toEqual(expected);
  });

  test('an older checkpoint than the one that failed', () => {
    expect(newestOf([disk(5, 60), disk(5, 50), store(3, 40)], { ...admissible, below: 60 })?.step).toBe(50);
  });

  test('a replay does without warm state', () => {
    expect(newestOf([warm(5, 60), disk(5, 50)], { ...admissible, isWarmOk: () => false })?.step).toBe(50);
  });
});

describe('warm state in shared memory', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'anneal-warm-'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  function write(
    run: string,
    claim: number,
    rank: number,
    step: number,
    more: { word?: number; processes?: number; of?: string } = {},
  ) {
    const folder = warmFolder(root, run, claim);
    mkdirSync(folder, { recursive: true });
    const header = {
      ...{ v: 1, run: more.of ?? run, claim, lineage: L, rank, processes: more.processes ?? 1, step, terminal: false },
      ...{ bytes: 4096, blob: { offset: 4096, length: 0, sha256: '' }, check: '' },
    };
    const block = Buffer.alloc(4096);
    block.writeBigUInt64LE(BigInt(more.word ?? step + 1));
    block.write(JSON.stringify(header), 8);
    writeFileSync(join(folder, `rank-${rank}.slot-${step % 2}`), block);
  }
  const found = async (run = 'r') =>
    (await findHere({ warmRoot: root, runFolder: '/nonexistent', run })).map(({ claim, step }) => [claim, step]);

  test('the newest committed slot counts', async () => {
    write('r', 1, 0, 7);
    write('r', 1, 0, 8);
    expect(await found()).toEqual([[1, 8]]);
  });

  test('a slot that is being written does not', async () => {
    write('r', 1, 0, 7);
    write('r', 1, 0, 8, { word: 0 });
    expect(await found()).toEqual([[1, 7]]);
  });

  test('with several ranks the newest step that all hold counts, even where each has a newer one', async () => {
    for (const [rank, step] of [
      [0, 7],
      [0, 10],
      [1, 7],
      [1, 8],
    ] as const)
      write('r', 1, rank, step, { processes: 2 });
    expect(await found()).toEqual([[1, 7]]);
  });

  test('with several ranks the slowest counts, and each must hold its step', async () => {
    for (const [rank, step] of [
      [0, 7],
      [0, 8],
      [1, 7],
    ] as const)
      write('r', 1, rank, step, { processes: 2 });
    for (const [rank, step] of [
      [0, 9],
      [1, 7],
    ] as const)
      write('r', 2, rank, step, { processes: 2 });
    expect(await found()).toEqual([[1, 7]]);
  });

  test('a missing rank, a foreign run, a wrong commit word and rubbish are nothing', async () => {
    write('r', 1, 0, 7, { processes: 2 });
    write('r', 2, 0, 7, { of: 'another' });
    write('r', 3, 0, 7, { word: 99 });
    mkdirSync(warmFolder(root, 'r', 4), { recursive: true });
    writeFileSync(join(warmFolder(root, 'r', 4), 'rank-0.slot-0'), 'rubbish');
    expect(await found()).toEqual([]);
  });

  test('other claims go when this one has something in the store', async () => {
    write('r', 1, 0, 7);
    write('r', 2, 0, 9);
    await deleteOtherWarmStates(root, 'r', 2);
    expect(await found()).toEqual([[2, 9]]);
  });

  test('at the start of a worker only the run that trained last stays, and not for ever', async () => {
    for (const run of ['a', 'b', 'c']) write(run, 1, 0, 7);
    const seen = async (run: string) => ({ a: 100, b: 300, c: 200 })[run] ?? 0;
    expect((await sweepWarmStates(root, seen, 400)).sort()).toEqual(['a', 'c']);
    expect(await found('b')).toEqual([[1, 7]]);
    expect(await sweepWarmStates(root, seen, 400 + 48 * 3_600_000)).toEqual(['b']);
  });
});
