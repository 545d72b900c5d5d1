// What became of a gang, out of how its hosts ended; and which place a host gets.
import { describe, expect, test } from 'vitest';
import type { GangDeath } from '../../src/contracts/gang.ts';
import type { TrainResultSummary } from '../../src/contracts/stages.ts';
import {
  absentHosts,
  gpuSecondsOf,
  judgeAttempt,
  type MemberEnd,
  mayBePaused,
  placeHosts,
  wasAsked,
} from '../../src/workflows/policies/gang.ts';

const HOSTS = ['a', 'b', 'c'];
const result = { record: 'r' } as TrainResultSummary;
const death = (more: Partial<GangDeath> = {}): GangDeath => ({
  ...{ class: 'exception', kind: 'trainer_crashed', fingerprint: 'f', message: 'It broke.' },
  ...{ highest: 7, from: 4, stepped: true, ...more },
});
const died = (more: Partial<GangDeath> = {}, isCascade = false): MemberEnd => ({
  ...{ ended: 'died', death: death(more), isCascade, microBatch: 4, gpuSeconds: null },
});
const cancelled: MemberEnd = { ended: 'cancelled', details: [{ step: 9, gpuSeconds: 1 }] };
const failed = (kind: string, isFinal: boolean): MemberEnd => ({
  ended: 'failed',
  kind,
  message: 'So it is.',
  isFinal,
});
const lost: MemberEnd = { ended: 'lost', step: 8, gpuSeconds: 3 };

test('GPU time is the newest that any host has told', () => {
  expect(gpuSecondsOf([lost, { ...died(), gpuSeconds: 5 } as MemberEnd, cancelled, null], 2)).toBe(5);
  expect(gpuSecondsOf([failed('preempted', false), null, died()], 2)).toBe(2);
});

test('a host that has not ended may be paused as long as the others only followed it', () => {
  const asked = died({ class: 'killed' }, true);
  expect(mayBePaused([asked, null])).toBe(true);
  for (const ends of [
    [asked, asked],
    [asked, failed('preempted', false), null],
    [asked, lost, null],
    [died(), null],
  ])
    expect(mayBePaused(ends)).toBe(false);
});

describe('the end of an attempt', () => {
  test('the first host’s result counts, whatever became of the others after it', () => {
    expect(judgeAttempt([{ ended: 'done', result }, null, lost], HOSTS, 0)).toEqual({ is: 'done', result });
  });

  test('a failure that repeating cannot mend ends the gang with its kind', () => {
    const ends = [died({}, true), failed('data_rejected', true), cancelled];
    expect(judgeAttempt(ends, HOSTS, 0)).toEqual({ is: 'over', kind: 'data_rejected', message: 'So it is.' });
  });

  test.each<[string, (MemberEnd | null)[], Partial<GangDeath>, string, number[]]>([
    [
      'the one that did not only miss others is the root',
      [died({}, true), died({ message: 'OOM' })],
      { message: 'OOM' },
      'trainer_crashed',
      [],
    ],
    [
      'a root is known even where another host was lost',
      [died(), lost],
      { message: 'It broke.' },
      'trainer_crashed',
      [1],
    ],
    [
      'a silent host explains what the others missed',
      [died({}, true), null],
      { class: 'killed', fingerprint: 'killed:gang:host' },
      'node_lost',
      [1],
    ],
    ['as does one whose heartbeat stopped', [lost, died({}, true)], { class: 'killed', highest: 8 }, 'node_lost', [0]],
    [
      'the end of a worker is nobody’s fault',
      [died({}, true), failed('preempted', false)],
      { class: 'killed', fingerprint: 'killed:gang:preempted' },
      'preempted',
      [],
    ],
    [
      'hosts that only missed each other were parted',
      [died({}, true), died({}, true)],
      { class: 'killed', fingerprint: 'killed:gang:cascade' },
      'trainer_crashed',
      [],
    ],
    [
      'progress is the first host’s, also when it was cancelled',
      [cancelled, died({ highest: 0, from: 4, stepped: false })],
      { highest: 9, from: 4, stepped: true },
      'trainer_crashed',
      [],
    ],
  ])('%s', (_name, ends, expected, receiptKind, silent) => {
    const verdict = judgeAttempt(ends, HOSTS, 0);
    expect(verdict).toMatchObject({ is: 'broken', death: expected, receiptKind, lost: silent });
  });

  test('what was reached before is not forgotten', () => {
    expect(judgeAttempt([died({ highest: 3 }), cancelled], HOSTS, 12)).toMatchObject({ death: { highest: 12 } });
  });
});

test('a gang whose end was asked for is told from one that broke', () => {
  expect(wasAsked([null, failed('preempted', false)])).toBe(true);
  expect(wasAsked([null, died({ class: 'killed' }, true)])).toBe(true);
  expect(wasAsked([null, died({}, true)])).toBe(false);
  expect(wasAsked([null, died({ class: 'killed' })])).toBe(false);
});

test('hosts keep their places, and new ones fill the gaps', () => {
  expect(placeHosts([], ['a', 'b'])).toEqual(['a', 'b']);
  expect(placeHosts(['b', 'a'], ['a', 'b'])).toEqual(['b', 'a']);
  expect(placeHosts(['x', 'b', 'y'], ['a', 'b', 'c'])).toEqual(['a', 'b', 'c']);
  expect(placeHosts(['a', 'x'], ['a', 'c'])).toEqual(['a', 'c']);
});

test('a busy host is left alone without being a death, a silent one counts as one', () => {
  expect(absentHosts([{ isBusy: true }, { isBusy: false }], ['a', 'b'], 3)).toEqual({ lost: ['a'], absent: null });
  const { lost: gone, absent } = absentHosts([null, { isBusy: false }], ['a', 'b'], 3);
  expect(gone).toEqual(['a']);
  expect(absent).toMatchObject({ class: 'killed', highest: 3, message: 'Host a did not answer.' });
});
