// What people read, as golden text: views are functions from state to lines.
import { expect, test } from 'vitest';
import { deltaOf } from '../../src/cli/gateway.ts';
import { createLiveBlock } from '../../src/cli/terminal.ts';
import { type Compared, comparisonLines } from '../../src/cli/views/compare.ts';
import { doctorLines } from '../../src/cli/views/doctor.ts';
import { drillLines } from '../../src/cli/views/drill.ts';
import { bar, createPaint, cutTo, formatAge, formatSeconds, visibleWidth, wrap } from '../../src/cli/views/format.ts';
import { logLine } from '../../src/cli/views/log-line.ts';
import { runLines, runLogLine, stageChangeLines } from '../../src/cli/views/run.ts';
import { summaryLines } from '../../src/cli/views/summary.ts';
import { sweepLines } from '../../src/cli/views/sweep.ts';
import { ancestryTable, modelsTable, runsTable, schedulesTable, versionsTable } from '../../src/cli/views/tables.ts';
import type { PendingActivity, RunDescription } from '../../src/client/description.ts';
import type { SweepDescription } from '../../src/client/sweeps.ts';
import { parseSpec } from '../../src/contracts/spec.ts';
import type { Progress, StageState, StageStatus } from '../../src/contracts/status.ts';
import { draftVersion } from '../support/versions.ts';
import { ACCOUNTS, EVALUATION } from './pretend-results.ts';

const plain = createPaint(false);
const nowMs = Date.parse('2026-11-24T08:01:12Z');
const webUi = 'http://127.0.0.1:8233/namespaces/default/workflows/r';

const stage = (name: string, state: StageState, seconds: number | null = null, outcome: string | null = null) =>
  ({ stage: name, state, seconds, outcome }) as StageStatus;

const TRAINING: Progress = {
  stage: 'train',
  phase: 'train',
  step: 50,
  of: 125,
  loss: 0.41234,
  curve: '█▆▃▁',
  validation: '0.520 at step 48, the best',
  tokensPerSecond: 341,
  eta: '2 min 10 s',
  checkpoint: 'step 48 (claim 1)',
  recoveries: 1,
  claim: 2,
};

function pending(progress: Progress | null, more: Partial<PendingActivity> = {}): PendingActivity {
  return { activity: 'train', attempt: 1, state: 'running', worker: 'w', lastFailure: null, progress, ...more };
}

function running(activity: PendingActivity): RunDescription {
  return {
    run: 'meters-0123456789ab',
    execution: 'x',
    state: 'running',
    startedAt: '2026-11-24T08:00:00Z',
    closedAt: null,
    note: null,
    status: {
      run: 'meters-0123456789ab',
      name: 'meters',
      model: 'meters',
      stages: [
        stage('ingest', 'done', 0.42, '1,683 rows from 3 sources'),
        stage('preprocess', 'done', 75, '1,501 kept'),
        stage('train', 'running'),
        stage('evaluate', 'waiting'),
        stage('register', 'skipped'),
        stage('deploy', 'skipped'),
      ],
      data: null,
      evaluation: null,
      training: null,
      version: null,
      endpoint: null,
      failure: null,
    },
    pending: [activity],
    progress: activity.progress,
  };
}

test('a run that trains', () => {
  const view = { description: running(pending(TRAINING)), nowMs, webUi };
  expect(runLines(view, 100, plain)).toEqual([
    'meters-0123456789ab  running, 1 min 12 s',
    '  ✓ ingest           0.4 s  1,683 rows from 3 sources',
    '  ✓ preprocess  1 min 15 s  1,501 kept',
    '  ▸ train                   ████████████░░░░░░░░░░░░░░░░░░ step 50 of 125',
    '  · evaluate',
    '  - register                not asked for',
    '  - deploy                  not asked for',
    '    loss 0.412   █▆▃▁   341 tokens/s   2 min 10 s left',
    '    validation 0.520 at step 48, the best',
    '    last checkpoint step 48 (claim 1)   recovered 1 time   claim 2',
    `  ${webUi}`,
  ]);
});

test.each([40, 60, 80, 200])('no line is wider than a terminal of %i columns', (width) => {
  const failed = running(pending({ ...TRAINING, waitingFor: 'the object store, which does not answer' }));
  failed.note = 'The Temporal server has not answered for 12 s; asking again.';
  const view = { description: failed, nowMs, webUi };
  for (const line of runLines(view, width, createPaint(true))) expect(visibleWidth(line)).toBeLessThanOrEqual(width);
});

test('a stage that waits for a worker, one that is tried again, and one that counts bytes', () => {
  const line = (activity: PendingActivity) => runLines({ description: running(activity), nowMs, webUi }, 100, plain)[3];
  expect(line(pending(null, { state: 'waiting' }))).toBe('  ▸ train                   waiting for a free GPU worker');
  expect(line(pending(null, { attempt: 3, lastFailure: 'The store\nis down.' }))).toBe(
    '  ▸ train                   attempt 3 after: The store is down.',
  );
  const held = running(pending(TRAINING, { state: 'paused' }));
  const lines = runLines({ description: held, nowMs, webUi }, 100, plain);
  expect(lines[3]).toBe('  ▸ train                   paused by an operator after step 50');
  expect(lines.join()).not.toContain('left');
  const bytes: Progress = { stage: 'preprocess', phase: 'tokenise', step: 300, of: 1000 };
  expect(line(pending(bytes))).toBe('  ▸ train                   █████████░░░░░░░░░░░░░░░░░░░░░ tokenise 30 %');
});

test('a failure is told in full, over several lines where need be', () => {
  const failed = running(pending(null));
  failed.state = 'failed';
  failed.status.failure = {
    kind: 'data_rejected',
    message: 'All 10 rows were dropped; mend the file\nand start again.',
  };
  const lines = runLines({ description: failed, nowMs, webUi }, 45, plain).slice(7);
  expect(lines).toEqual(['  data_rejected: All 10 rows were dropped;', '  mend the file and start again.']);
  expect(runLogLine(failed)).toBe(
    'meters-0123456789ab failed: data_rejected: All 10 rows were dropped; mend the file and start again.',
  );
});

test('log lines: what is being done, and what changed', () => {
  expect(runLogLine(running(pending(TRAINING)))).toBe(
    'train: step 50 of 125, loss 0.412, validation 0.520 at step 48, the best, 341 tokens/s, 2 min 10 s left, checkpoint step 48 (claim 1), recovered 1 time',
  );
  const before = [stage('ingest', 'running'), stage('train', 'waiting'), stage('deploy', 'skipped')];
  const after = [stage('ingest', 'done', 1, '10 rows'), stage('train', 'running'), stage('deploy', 'skipped')];
  expect(stageChangeLines(before, after)).toEqual(['ingest: done after 1.0 s: 10 rows', 'train: started']);
  expect(stageChangeLines(after, after)).toEqual([]);
});

test('the summary: rows, before and after with intervals, the gate, examples', () => {
  const { status } = running(pending(null));
  Object.assign(status, { data: ACCOUNTS, evaluation: EVALUATION, version: 3, endpoint: 'meters' });
  status.training = {
    step: 125,
    loss: 0.2,
    trainableParameters: 328,
    totalParameters: 13_780,
    recoveries: 1,
    weightsSha256: '',
    goodput: { share: 0.94, lostSeconds: { wait: 0.2, load: 5, 'recovery:trainer_crashed': 7.5 } },
  };
  expect(summaryLines(status, 70, plain)).toEqual([
    'Rows        10 read = 7 kept + 2 doubled + 1 dropped',
    '            kept: 5 train, 1 validation, 1 test',
    '            dropped: invalid_json 1',
    '',
    'Before and after on 200 held-out rows',
    '                                       same JSON             95 % interval   loss',
    '  untuned                               0 of 200   0.0 %    0.0 % to 1.9 %  2.500',
    '  untuned with 12 examples (control)    7 of 200   3.5 %    1.7 % to 7.0 %  1.500',
    '  tuned                               153 of 200  76.5 %  70.2 % to 81.8 %  0.200',
    '  gate pass, against the untuned model with 12 examples in its prompt',
    '    The interval lies above zero.',
    '',
    '  » timer for 64-hour and 11 seconds',
    '    before  The `time.sleep(64)` function is a built-in Python functi…',
    '    after ✓ {"intent": "StartTimer", "slots": {"hours": 64, "seconds"…',
    '',
    '  » light up library',
    '    before  (not generated)',
    '    after ✗ {"intent": "TurnOn"}',
    '',
    'Training    125 steps, loss 0.200, 328 of 13,780 parameters (2.4 %),',
    '            recovered 1 time',
    '            goodput 94.0 %; lost: recovery:trainer_crashed 7.5 s, load',
    '            5.0 s',
    '',
    'Model       meters version 3, served as meters',
  ]);
});

test('a sweep fits a terminal of 80 columns: trials by number, and where the winner came to', () => {
  const trial = { share: 0.5, step: 36, evalLoss: 10.5898, why: 'place 2 of 2 at 50 %', isOutOfBudget: false };
  const { status } = running(pending(null));
  const training = {
    ...{ step: 71, loss: 10, evalLoss: 10.4721, trainableParameters: 1, totalParameters: 2, recoveries: 0 },
    ...{ weightsSha256: '', goodput: { share: 1, lostSeconds: {} } },
  };
  const rates = ['0.0005', '0.002'].map((rate) => `train.learningRate=${rate}, train.lora.rank=8`);
  const description: SweepDescription = {
    ...{ sweep: 'r-sweep-0123456789ab', state: 'completed', startedAt: '', closedAt: null, failure: null },
    status: {
      ...{ sweep: 'r-sweep-0123456789ab', name: 'r', rungs: [0.5], winner: 'r-sweep-0123456789ab-02' },
      trials: [
        { ...trial, run: 'r-sweep-0123456789ab-01', state: 'lost', changes: rates[0] as string },
        { ...trial, run: 'r-sweep-0123456789ab-02', state: 'won', changes: rates[1] as string, why: null },
      ],
      result: { ...status, training },
    },
  };
  expect(sweepLines(description, 80, plain)).toEqual([
    'r-sweep-0123456789ab  completed',
    '  TRIAL  STATE  STEP     LOSS  CHANGES                           WHY',
    '  -01    lost     36  10.5898  learningRate=0.0005, lora.rank=8  place 2 of 2 a…',
    '  -02    won      36  10.5898  learningRate=0.002, lora.rank=8',
    '  best: r-sweep-0123456789ab-02, 71 steps, validation 10.4721',
  ]);
});

test('runs side by side: what differs, and what came of it', () => {
  const { status } = running(pending(null));
  const spec = (learningRate: number, name: string) =>
    parseSpec({ name, data: { sources: [{ uri: 'rows.jsonl' }] }, train: { learningRate } });
  const compared: Compared[] = [
    {
      ...{ run: 'a-1', state: 'completed', startedAt: '', spec: spec(0.001, 'a') },
      status: { ...status, evaluation: EVALUATION },
      curve: {
        steps: [3, 2, 1].map((loss, i) => ({ step: i + 1, loss, gradNorm: 1, learningRate: 1 })),
        validations: [{ step: 2, loss: 1.5 }],
      },
    },
    { run: 'b-2', state: 'running', startedAt: '', spec: spec(0.002, 'b'), status, curve: null },
  ];
  expect(comparisonLines(compared, 80, plain)).toEqual([
    '                    a-1                b-2',
    'state               completed          running',
    'train.learningRate  0.001              0.002',
    'steps               3                  -',
    'loss                █▅▁ 3.000 → 1.000  -',
    'best validation     1.500 at step 2    -',
    'right               153 of 200         -',
    'test loss           0.200              -',
    'gate                pass               -',
  ]);
});

test('tables of runs, models and schedules, and what is said when there are none', () => {
  const run = { run: 'meters-1', state: 'running' as const, startedAt: '2026-11-24T08:00:00Z', closedAt: null };
  const training = { ...run, stage: 'train', model: 'meters', progress: TRAINING, waitsForWorker: false };
  const behind = { ...training, run: 'meters-2', stage: 'evaluate', progress: null, waitsForWorker: true };
  expect(runsTable([training, behind], nowMs, plain)).toEqual([
    'RUN       STATE    STAGE     PROGRESS                         AGE',
    'meters-1  running  train     step 50 of 125, loss 0.412     1 min',
    'meters-2  running  evaluate  waiting for a free GPU worker  1 min',
  ]);
  expect(modelsTable([{ model: 'meters', versions: 3, champion: 2 }], plain)).toEqual([
    'MODEL   VERSIONS  CHAMPION',
    'meters         3  v2',
  ]);
  const schedule = { id: 'nightly', paused: false, note: null, when: 'every 1 d', nextAt: '2026-11-24T20:01:12Z' };
  expect(schedulesTable([{ ...schedule, lastAt: null, lastWorkflow: null, lastOutcome: null }], nowMs, plain)).toEqual([
    'SCHEDULE  WHEN       STATE  NEXT     LAST  LAST OUTCOME',
    'nightly   every 1 d  on     in 12 h',
  ]);
  const outcomes = [
    [{ state: 'completed', run: 'meters-1', why: null }, 'run meters-1 completed'],
    [{ state: 'completed', run: 'meters-1', why: 'Nothing is new.' }, 'skipped: Nothing is new.'],
    [{ state: 'running', run: 'meters-1', why: null }, 'run meters-1 running'],
    [{ state: 'failed', run: null, why: 'The gate says fail.' }, 'failed: The gate says fail.'],
  ] as const;
  for (const [lastOutcome, says] of outcomes) {
    const last = { ...schedule, lastAt: '2026-11-24T08:00:12Z', lastWorkflow: 'retraining-nightly', lastOutcome };
    expect(schedulesTable([last], nowMs, plain)[1]).toBe(`nightly   every 1 d  on     in 12 h  1 min ago  ${says}`);
  }
  for (const none of [runsTable([], nowMs, plain), modelsTable([], plain), schedulesTable([], nowMs, plain)]) {
    expect(none).toEqual([expect.stringContaining('`anneal ')]);
  }
});

test('a drill that came out equal, and one that did not', () => {
  const kill = { atStep: 12, detectedMs: 210, stepsLost: 2, nextNewStepMs: 5230, sha256: 'aa', equal: true };
  const report = { part: 'trainer', undisturbed: 'aa', kills: [kill], equal: true };
  expect(drillLines(report, plain)).toEqual([
    'KILLED   AT STEP  NOTICED AFTER  STEPS LOST  NEXT NEW STEP AFTER',
    'trainer       12         210 ms           2                5.2 s',
    'The weights are the same, bit for bit: aa.',
    '',
  ]);
  expect(drillLines({ ...report, undisturbed: 'bb', equal: false }, plain)[2]).toBe(
    'The weights differ: aa instead of bb.',
  );
});

test('the doctor puts the remedy below what is wrong', () => {
  const checks = [
    { name: 'node', ok: true, found: 'v24', remedy: null },
    { name: 'disk', ok: false, found: '1 GB free', remedy: 'Free some.' },
  ];
  expect(doctorLines(checks, plain)).toEqual([
    '✓  node  v24',
    '✗  disk  1 GB free',
    '   → Free some.',
    '',
    '1 of 2 checks need something done.',
  ]);
});

test('log lines of ours are laid out, others stay as they are', () => {
  const ours = '{"t":"2026-11-24T08:00:01.000Z","level":"warn","part":"gpu","message":"slow","run":"r"}';
  expect(logLine({ part: 'gpu', text: ours }, plain).text).toBe('08:00:01 gpu        slow run=r');
  expect(logLine({ part: 'store', text: 'I1124 started' }, plain).text).toBe('         store      I1124 started');
  expect(logLine({ part: 'store', text: '{broken' }, plain).text).toBe('         store      {broken');
});

test('quantities', () => {
  expect([0.42, 9.96, 59.6, 3599, 7260].map(formatSeconds)).toEqual([
    '0.4 s',
    '10 s',
    '1 min 00 s',
    '59 min 59 s',
    '2 h 01 min',
  ]);
  expect([500, 90_000, 7_200_000, 200_000_000].map(formatAge)).toEqual(['1 s', '1 min', '2 h', '2 d']);
  expect([bar(0, 0, 4), bar(1, 3, 6), bar(9, 3, 4)]).toEqual(['░░░░', '██░░░░', '████']);
  expect([cutTo('abcdef', 4), cutTo('abcd', 4), wrap('aa bb cc', 5)]).toEqual(['abc…', 'abcd', ['aa bb', 'cc']]);
  expect(cutTo(createPaint(true).red('abcdef'), 4)).toBe('\u001b[31mabc…\u001b[39m');
});

const ESC = String.fromCharCode(27);
const TOKEN = new RegExp(`${ESC}\\[\\??\\d*[A-Za-z]|\\r|\\n|[^${ESC}\\r\\n]+`, 'g');
const COMMAND = new RegExp(`^${ESC}\\[(\\d*)([A-Z])$`);

/** A terminal small enough to reason about: what a person sees after the writes. */
function createScreen(columns: number, rows: number) {
  let lines: string[] = [''];
  let row = 0;
  return {
    columns,
    rows,
    seen: () => lines.join('\n').trimEnd(),
    write(text: string) {
      for (const [token] of text.matchAll(TOKEN)) {
        const command = COMMAND.exec(token);
        if (token === '\n') {
          row++;
          lines[row] ??= '';
        } else if (command?.[2] === 'A') row -= Number(command[1]);
        else if (command?.[2] === 'K') lines[row] = '';
        else if (command?.[2] === 'J') lines = lines.slice(0, row + 1).with(row, '');
        else if (!token.startsWith('\u001b') && token !== '\r') lines[row] += token;
      }
      expect(row).toBeGreaterThanOrEqual(0);
    },
  };
}

test('the live block is drawn over itself: longer, shorter, and cut to the screen', () => {
  const screen = createScreen(10, 4);
  const block = createLiveBlock(screen);
  block.draw(['one', 'two']);
  expect(screen.seen()).toBe('one\ntwo');
  block.draw(['three', 'four', 'five']);
  expect(screen.seen()).toBe('three\nfour\nfive');
  block.draw(['a line that is too long']);
  expect(screen.seen()).toBe('a line th…');
  block.draw(['1', '2', '3', '4', '5']);
  expect(screen.seen()).toBe('1\n2\n3');
});

test('pieces of an answer are read from server-sent events, and a broken answer is an error', () => {
  expect(deltaOf('data: {"choices":[{"delta":{"content":"Hi"}}]}')).toBe('Hi');
  expect(
    [': ping', '', 'data: [DONE]', 'data: {"choices":[]}', 'data: {"choices":[{"delta":{}}]}'].map(deltaOf).join(''),
  ).toBe('');
  expect(() => deltaOf('data: {"error":{"message":"engine died"}}')).toThrow('The answer broke off: engine died');
});

test('a version is shown with what it continues, down to the base model', () => {
  const digest = (character: string) => character.repeat(64);
  const version = (number: number, more: object) => ({ ...draftVersion(more), version: number, writeId: 'w' });
  const first = version(1, { digest: digest('1'), recipe: { method: 'sft' } });
  const parent = { model: 'support', version: 1, digest: digest('1') };
  const second = version(2, { digest: digest('2'), recipe: { method: 'dpo' }, parent });
  const text = (chain: (typeof first)[]) => ancestryTable(chain, 60_000, createPaint(false)).join('\n');
  expect(text([second, first])).toMatch(
    /support@2 +dpo[\s\S]*support@1 +sft[\s\S]*tiny, digest dddddddddddd, is the base model\.$/,
  );
  expect(text([second])).toMatch(/support@1 is no longer in the registry\.$/);
  const table = versionsTable([second, first], new Map(), 60_000, createPaint(false));
  expect(table[0]).toContain('CONTINUES');
  expect(table[1]).toContain('support@1');
  expect(versionsTable([first], new Map(), 60_000, createPaint(false))[0]).not.toContain('CONTINUES');
});
