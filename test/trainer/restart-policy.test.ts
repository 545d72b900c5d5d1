import { describe, expect, test } from 'vitest';
import {
  decideRestart,
  FRUITLESS_DEATHS_MAX,
  FRUITLESS_KILLS_MAX,
  type TrainerDeath,
} from '../../src/trainer/restart-policy.ts';

type End = TrainerDeath['end'];
const crash: End = { reason: 'exited', outcome: 'crashed', message: 'boom', signal: null };
const kill: End = { ...crash, signal: 'SIGKILL' };
const stall: End = { ...kill, reason: 'stalled' };
const died = (end: End, ...steps: number[]): TrainerDeath[] => steps.map((step) => ({ end, step, from: 0 }));
const times = (n: number, step: number) => Array.from({ length: n }, () => step);

describe('restart policy', () => {
  test.each([
    ['one crash', died(crash, 5), 'restart', 'trainer_crashed'],
    [
      'a hundred crashes with progress between them',
      died(crash, ...Array.from({ length: 100 }, (_, i) => i)),
      'restart',
      'trainer_crashed',
    ],
    [
      'crashes at the same step, one short of the limit',
      died(crash, ...times(FRUITLESS_DEATHS_MAX - 1, 7)),
      'restart',
      'trainer_crashed',
    ],
    [
      'as many kills while it loads as crashes would be too many',
      died(kill, ...times(FRUITLESS_DEATHS_MAX, 0)),
      'restart',
      'trainer_crashed',
    ],
    ['a stall', died(stall, 3), 'restart', 'trainer_stalled'],
    ['a corrupt checkpoint', died({ ...crash, outcome: 'checkpoint_corrupt' }, 3), 'restart', 'checkpoint_corrupt'],
  ] as const)('%s: started again', (_name, deaths, action, kind) => {
    expect(decideRestart([...deaths])).toMatchObject({ action, kind });
  });

  test.each([
    ['crashes at the same step', died(crash, ...times(FRUITLESS_DEATHS_MAX, 7)), 'trainer_bug'],
    ['stalls at the same step', died(stall, ...times(FRUITLESS_DEATHS_MAX, 7)), 'trainer_bug'],
    ['kills without end', died(kill, ...times(FRUITLESS_KILLS_MAX, 0)), 'trainer_bug'],
    ['a loss that is not finite', died({ ...crash, outcome: 'loss_not_finite' }, 3), 'loss_not_finite'],
    ['no memory', died({ ...crash, outcome: 'out_of_memory' }, 3), 'out_of_memory'],
    ['a wrong job', died({ ...crash, outcome: 'bad_request' }, 0), 'bad_request'],
    ['a full disk', died({ ...crash, outcome: 'disk_full' }, 3), 'disk_full'],
    ['exit code 0 without a result', died({ ...crash, outcome: 'done' }, 3), 'trainer_bug'],
  ] as const)('%s: given up', (_name, deaths, kind) => {
    expect(decideRestart([...deaths])).toMatchObject({ action: 'stop', error: { kind } });
  });
});
