// The exactness matrix: its moments and comparisons, and a fast part of it for real, with controls that must come out different.
import { describe, expect, test } from 'vitest';
import { locateLocal } from '../../src/cli/drill/local.ts';
import { isExact, isPassed, runMatrix } from '../../src/cli/drill/matrix.ts';
import { CELL_NAMES, selectCells, selectControls } from '../../src/cli/drill/matrix-cells.ts';
import { chooseLastShots, chooseShots, evenShots, type Shot } from '../../src/cli/drill/matrix-kills.ts';
import { areLogsEqual, readRunLog } from '../../src/cli/drill/matrix-logs.ts';
import { createPaint } from '../../src/cli/views/format.ts';
import { matrixLines } from '../../src/cli/views/matrix.ts';
import type { TrainResult } from '../../src/contracts/trainer-protocol.ts';
import { seededRandom } from '../../src/evaluation/seeded-random.ts';

describe('moments', () => {
  test('a seed repeats its shots; another seed gives others', () => {
    const shots = (seed: number) => chooseShots(10, 24, 2, seededRandom(seed));
    expect(shots(7)).toEqual(shots(7));
    expect(shots(8)).not.toEqual(shots(7));
  });

  test('shots come all over the run, go forward but for steps that are done again, and leave steps to recover in', () => {
    const seen = new Set<Shot['at']>();
    for (let seed = 0; seed < 200; seed++) {
      const at = chooseShots(10, 24, 1, seededRandom(seed)).map((shot) => shot.at);
      const steps = at.filter((its) => typeof its === 'number');
      for (const [i, step] of steps.entries()) expect(step).toBeGreaterThanOrEqual((steps[i - 1] ?? 0) - 3);
      for (const its of at) seen.add(its);
    }
    expect(seen).toEqual(new Set(['load', ...Array.from({ length: 22 }, (_, i) => i + 1)]));
  });

  test('a single process is always hit as a whole, a gang sometimes in one rank', () => {
    const ranks = (processes: number) => chooseShots(19, 24, processes, seededRandom(1)).map(({ rank }) => rank);
    expect(new Set(ranks(1))).toEqual(new Set([null]));
    expect(new Set(ranks(2))).toEqual(new Set([null, 0, 1]));
  });

  test('shots at the end wait for the last step, and those of a control come as late as can be', () => {
    expect(chooseLastShots(3, 1, seededRandom(1)).map(({ at }) => at)).toEqual(['end', 'end', 'end']);
    expect(evenShots(3, 24).map(({ at }) => at)).toEqual([7, 14, 22]);
  });
});

describe('comparison of logs', () => {
  const result = { step: 2, trainLoss: 1.5, weightsSha256: 'a', adapter: '/somewhere' } as TrainResult;
  const step = (n: number, loss: number, seconds = 0.1) => ({ t: 1000 * seconds, ev: 'step', step: n, loss, seconds });
  const undisturbed = readRunLog([step(1, 2), step(2, 1), { t: 3, ev: 'metrics', step: 2 }], result);
  const isEqual = (events: Parameters<typeof readRunLog>[0], ended = result) =>
    areLogsEqual(undisturbed, readRunLog(events, ended));
  const evaluation = { t: 9, ev: 'metrics', step: 2 };

  test('steps that were done again, times and paths do not matter', () => {
    const events = [step(1, 2), step(1, 2, 7), step(2, 1, 3), evaluation, { t: 9, ev: 'phase' }];
    expect(isEqual(events, { ...result, adapter: '/elsewhere' })).toBe(true);
  });

  test.each([
    ['a step that came out differently when done again', [step(1, 2), step(2, 1.1), step(2, 1), evaluation]],
    ['a step that is missing', [step(1, 2), evaluation]],
    ['a step too many', [step(1, 2), step(2, 1), evaluation, step(3, 1)]],
    ['an evaluation that is missing', [step(1, 2), step(2, 1)]],
  ])('%s is seen', (_what, events) => {
    expect(isEqual(events)).toBe(false);
  });

  test('a number of the result that differs is seen', () => {
    expect(isEqual([step(1, 2), step(2, 1), evaluation], { ...result, trainLoss: 1.4 })).toBe(false);
  });
});

test.each([
  ['equal after its kills', {}, true],
  ['no kill hit', { kills: 0, resumed: 0 }, false],
  ['other weights', { weightsEqual: false }, false],
  ['it died more often than it was killed', { resumed: 4 }, false],
])('a cell: %s', (_what, its, exact) => {
  const cell = { name: 'a', kills: 3, weightsEqual: true, logsEqual: true, resumed: 3, seconds: 1 };
  expect(isExact({ ...cell, ...its })).toBe(exact);
});

test('the table says which cells differ and which holes were not seen', () => {
  const cell = { kills: 3, weightsEqual: true, logsEqual: true, resumed: 2, seconds: 1 };
  const report = {
    cells: [
      { ...cell, name: 'a' },
      { ...cell, name: 'b', logsEqual: false },
    ],
    exact: 1,
    total: 2,
    controls: [{ name: 'a', hole: 'h', different: false }],
  };
  const lines = matrixLines(report, '', createPaint(false));
  expect(lines.slice(1, 3)).toEqual([
    'a         3        2  equal    equal   1.0 s',
    'b         3        2  equal    differ  1.0 s',
  ]);
  expect(lines.at(-1)).toBe('1 of 2 cells are exact.');
  expect(isPassed({ ...report, exact: 2 })).toBe(false);
  expect(matrixLines({ ...report, exact: 2 }, '', createPaint(false)).at(-1)).toContain('1 open hole was not seen');
});

test('cells and their controls are chosen by name', () => {
  expect(CELL_NAMES).toHaveLength(40);
  expect(selectCells([]).map(({ name }) => name)).toEqual(CELL_NAMES.filter((name) => !name.startsWith('zero')));
  expect(selectControls([])).toHaveLength(3);
  expect(selectCells(['packing']).map(({ name }) => name)).toEqual(['packing']);
  expect(selectControls(['packing'])).toEqual([]);
});

/** Twenty trainings of some twenty steps, on a loaded machine, ms. */
const MATRIX_MS_MAX = 240_000;

test('killed trainers end at the same weights and logs, from checkpoints and from warm state; open holes show', {
  timeout: MATRIX_MS_MAX,
}, async () => {
  const report = await runMatrix({
    ...locateLocal(),
    cells: ['random-collator', 'terminal', 'lora-warm', 'ddp-lora'],
    kills: 3,
    seed: 3,
    signal: AbortSignal.timeout(MATRIX_MS_MAX),
    onProgress: () => undefined,
  });
  expect(report.cells.map(({ name, weightsEqual, logsEqual }) => [name, weightsEqual, logsEqual])).toEqual([
    ['random-collator', true, true],
    ['terminal', true, true],
    ['lora-warm', true, true],
    ['ddp-lora', true, true],
  ]);
  expect(report.cells.filter(({ kills, resumed }) => kills === 0 || resumed === 0)).toEqual([]);
  expect(report.controls).toEqual([
    { name: 'random-collator', hole: 'unkeyed-collator', different: true },
    { name: 'terminal', hole: 'no-terminal-flag', different: true },
  ]);
  expect(isPassed(report)).toBe(true);
});
