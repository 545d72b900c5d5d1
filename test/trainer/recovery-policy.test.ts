// The table of failures and what is done about them.
import { describe, expect, test } from 'vitest';
import type { ChildEnd } from '../../src/trainer/child.ts';
import { classifyDeath, type DeathClass } from '../../src/trainer/death.ts';
import {
  type DeathOnRecord,
  decideRecovery,
  FRUITLESS_DEATHS_MAX,
  FRUITLESS_KILLS_MAX,
} from '../../src/trainer/recovery-policy.ts';

const KIND = {
  killed: 'trainer_crashed',
  stalled: 'trainer_stalled',
  out_of_memory: 'out_of_memory',
  not_finite: 'loss_not_finite',
};

/** A death at a step; `mark` tells two of one class apart. */
const died = (
  its: DeathClass,
  highest: number,
  more: Partial<DeathOnRecord> & { mark?: string } = {},
): DeathOnRecord => ({
  class: its,
  kind: (KIND as Record<string, DeathOnRecord['kind']>)[its] ?? 'trainer_crashed',
  fingerprint: `${its} ${more.mark ?? ''}`,
  message: 'It said so.',
  highest,
  from: Math.max(0, highest - 1),
  stepped: true,
  ...more,
});
const times = (n: number, death: DeathOnRecord) => Array.from({ length: n }, () => death);
const judge = (deaths: DeathOnRecord[], microBatch = 8) => decideRecovery(deaths, { microBatch });

describe('recovery policy', () => {
  test.each([
    ['one kill', [died('killed', 5)], 'restarted'],
    ['kills without end, each after a new step', Array.from({ length: 500 }, (_, i) => died('killed', i)), 'restarted'],
    [
      'crashes without end, each after a new step',
      Array.from({ length: 500 }, (_, i) => died('crashed', i)),
      'restarted',
    ],
    ['kills while it loads, one short of the limit', times(FRUITLESS_KILLS_MAX - 1, died('killed', 0)), 'restarted'],
    ['kills while it loads, at the limit', times(FRUITLESS_KILLS_MAX, died('killed', 0)), 'stopped'],
    ['one crash', [died('crashed', 7)], 'restarted'],
    ['the same crash again', times(2, died('crashed', 7)), 'older_checkpoint'],
    ['the same crash a third time', times(3, died('crashed', 7)), 'stopped'],
    ['the same crash twice with nothing older', times(2, died('crashed', 0, { from: 0 })), 'stopped'],
    [
      'another crash at the same step',
      [died('crashed', 7, { mark: 'a' }), died('crashed', 7, { mark: 'b' })],
      'restarted',
    ],
    ['the same crash after a new step', [died('crashed', 7), died('crashed', 8)], 'restarted'],
    [
      'as many different crashes as are borne',
      Array.from({ length: FRUITLESS_DEATHS_MAX }, (_, i) => died('crashed', 7, { mark: String(i) })),
      'stopped',
    ],
    ['crashes between kills', [died('crashed', 7), died('killed', 7), died('crashed', 7)], 'older_checkpoint'],
    ['a stall', [died('stalled', 3)], 'restarted'],
    ['the same stall again', times(2, died('stalled', 3)), 'older_checkpoint'],
    ['the same stall a third time', times(3, died('stalled', 3)), 'stopped'],
    ['an exception', [died('exception', 5)], 'restarted'],
    [
      'an exception before the first step after a resume',
      [died('exception', 5, { stepped: false })],
      'older_checkpoint',
    ],
    ['an exception before the first step of all', [died('exception', 0, { from: 0, stepped: false })], 'restarted'],
    ['the same exception again', times(2, died('exception', 5)), 'stopped'],
    ['memory gone once', [died('out_of_memory', 5)], 'restarted'],
    ['memory gone twice', times(2, died('out_of_memory', 5)), 'smaller_batch'],
    ['NaN', [died('not_finite', 5)], 'replayed'],
    ['NaN at the same step', times(2, died('not_finite', 5)), 'stopped'],
    ['NaN at a later step', [died('not_finite', 5), died('not_finite', 9)], 'replayed'],
    ['an unreadable state', [died('state_unreadable', 5)], 'state_dropped'],
    ['unreadable states without end', times(50, died('state_unreadable', 5)), 'state_dropped'],
    ['unreadable with nothing to read', [died('state_unreadable', 0, { from: 0 })], 'stopped'],
    ['a full disk', [died('disk_full', 5)], 'disk_freed'],
    ['a full disk again', times(2, died('disk_full', 5)), 'stopped'],
    ['a wrong job', [died('bad_request', 0)], 'stopped'],
    ['wrong data', [died('data_rejected', 0)], 'stopped'],
    ['no result', [died('no_result', 9)], 'stopped'],
    ['no Python', [died('cannot_start', 0)], 'stopped'],
  ] as [string, DeathOnRecord[], string][])('%s: %3$s', (_name, deaths, action) => {
    expect(judge(deaths).action).toBe(action);
  });

  test.each([
    [8, 2],
    [9, 3],
    [7, 7],
    [15, 3],
  ])('a micro-batch of %i is divided by %i', (microBatch, factor) => {
    expect(judge(times(2, died('out_of_memory', 5)), microBatch)).toEqual({ action: 'smaller_batch', factor });
  });

  test('a micro-batch of 1 cannot be divided, and the error says what to change', () => {
    const step = judge(times(2, died('out_of_memory', 5)), 1);
    expect(step).toMatchObject({ action: 'stopped', error: { kind: 'out_of_memory' } });
    const pair = decideRecovery(times(2, died('out_of_memory', 5)), { microBatch: 2, method: 'kto' });
    expect(pair).toMatchObject({ action: 'stopped', error: { kind: 'out_of_memory' } });
    expect(step.action === 'stopped' && step.error.message).toContain('data.maxLength');
  });

  test('what is stopped says how often it failed and where', () => {
    const step = judge(times(3, died('crashed', 7)));
    expect(step.action === 'stopped' && step.error.message).toContain(
      '3 times in the same way without a step beyond 7',
    );
  });
});

describe('what a trainer died of', () => {
  const end: ChildEnd = {
    reason: 'exited',
    outcome: 'crashed',
    code: null,
    signal: null,
    message: 'boom',
    failed: null,
    stacks: null,
    forced: false,
    garbage: null,
    result: null,
  };
  const classOf = (more: Partial<ChildEnd>, oomKills = 0) =>
    classifyDeath({ end: { ...end, ...more }, oomKills, phase: 'train' }).class;

  test.each([
    ['SIGKILL', { signal: 'SIGKILL' }, 0, 'killed'],
    ['SIGKILL with a count by the kernel', { signal: 'SIGKILL' }, 1, 'out_of_memory'],
    ['SIGSEGV with a count by the kernel', { signal: 'SIGSEGV' }, 1, 'crashed'],
    ['128 + 9 with a count by the kernel', { code: 137 }, 1, 'out_of_memory'],
    ['128 + 11', { code: 139 }, 0, 'crashed'],
    ['SIGTERM', { signal: 'SIGTERM' }, 0, 'killed'],
    ['SIGHUP', { signal: 'SIGHUP' }, 0, 'killed'],
    ['SIGABRT', { signal: 'SIGABRT' }, 0, 'crashed'],
    ['exit code 1 with a word', { code: 1, failed: 'trainer_crashed' }, 0, 'exception'],
    ['exit code 1 without one', { code: 1 }, 0, 'exception'],
    ['exit code 7 without one', { code: 7 }, 0, 'crashed'],
    ['killed for silence', { reason: 'stalled', signal: 'SIGKILL' }, 0, 'stalled'],
    ['killed for garbage', { reason: 'flooded', signal: 'SIGKILL', garbage: 'x' }, 0, 'crashed'],
    ['no such program', { reason: 'not_started', message: 'spawn x ENOENT' }, 0, 'cannot_start'],
    ['no process left', { reason: 'not_started', message: 'spawn x EAGAIN' }, 0, 'crashed'],
    ['interrupted by nobody', { code: 41, outcome: 'interrupted' }, 0, 'killed'],
    ['done, it says', { code: 0, outcome: 'done' }, 0, 'no_result'],
  ] as [string, Partial<ChildEnd>, number, DeathClass][])('%s: %4$s', (_name, more, oomKills, expected) => {
    expect(classOf(more, oomKills)).toBe(expected);
  });

  test('numbers, addresses and paths do not make a death another one, words do', () => {
    const mark = (message: string) =>
      classifyDeath({ end: { ...end, code: 1, message }, oomKills: 0, phase: 'train' }).fingerprint;
    expect(mark('bad row 12 at 0xff in /tmp/a')).toBe(mark('bad row 7 at 0x1 in /tmp/b'));
    expect(mark('bad row 12')).not.toBe(mark('bad column 12'));
  });
});
