// The page of a run in the Web UI: what must be on it, and what the Web UI would draw badly.
import { describe, expect, test } from 'vitest';
import { STAGES } from '../../src/contracts/names.ts';
import type { PoolState } from '../../src/contracts/pool.ts';
import type { Pause, RunStatus, StageStatus } from '../../src/contracts/status.ts';
import { renderPoolPage } from '../../src/workflows/pool-page-text.ts';
import { renderRunPage } from '../../src/workflows/run-page-text.ts';
import { renderSweepPage } from '../../src/workflows/sweep-page-text.ts';
import { ACCOUNTS, EVALUATION } from '../cli/pretend-results.ts';

const done = (stage: StageStatus['stage'], more: Partial<StageStatus> = {}): StageStatus => ({
  stage,
  state: 'done',
  seconds: 109.3,
  outcome: `made by ${stage}`,
  ...more,
});

const status = (more: Partial<RunStatus> = {}): RunStatus => ({
  run: 'intents-0123456789ab',
  name: 'intents',
  model: 'intents',
  stages: STAGES.map((stage) => done(stage)),
  data: ACCOUNTS,
  evaluation: EVALUATION,
  training: null,
  version: 3,
  endpoint: 'intents',
  failure: null,
  ...more,
});

const paused: Pause = {
  ...{ kind: 'requested', isSaving: false, since: '2026-11-24T10:00:00.000Z', by: 'ann', step: 40 },
  why: 'the *GPU* is needed | [now](https://x)',
};

const tableRows = (page: string) => page.split('\n').filter((line) => line.startsWith('|'));

describe('the page of a run', () => {
  test('a finished run shows stages, accounts that add up, before and after, the gate and the model', () => {
    const page = renderRunPage(status());
    expect(page).toContain('✓\u00a0deploy');
    expect(page).toContain('1\u00a0min\u00a049\u00a0s');
    expect(page).toContain('10 rows in = **7 kept** + 2 duplicates + 1 dropped');
    expect(page).not.toContain('data card');
    expect(renderRunPage({ ...status(), card: 'http://127.0.0.1:8080/datasets/d/card' })).toContain(
      '- [data card](http://127.0.0.1:8080/datasets/d/card)',
    );
    expect(page).toContain('1\u00a0`invalid_json`');
    expect(page).toContain('153\u00a0of\u00a0200');
    expect(page).toContain('Gate **pass**. The interval lies above zero.');
    expect(page).toContain('**intents** version **3**, served as `intents`');
    expect(page).not.toContain('pending-activities');
  });

  test('a running stage links to where its progress is', () => {
    const stages = [done('ingest'), done('preprocess', { state: 'running', seconds: null, outcome: null })];
    expect(renderRunPage(status({ stages }))).toContain(
      '[Pending Activities](/namespaces/{namespace}/workflows/{workflowId}/{runId}/pending-activities)',
    );
  });

  test('a failure comes first, in words, and data that were refused lead to their card', () => {
    const failure = { kind: 'data_rejected' as const, message: 'No row can be trained on.' };
    const page = renderRunPage(status({ failure, data: null, card: 'http://cards/1' }));
    expect(page.split('\n\n')[1]).toBe('> **The data were refused.** No row can be trained on.');
    expect(page).toContain('- [data card](http://cards/1)\n- `anneal data quarantine show intents-0123456789ab`');
  });

  test('cells keep apart and in one line, and an address at the end of a row stays whole', () => {
    const stages = [done('deploy', { outcome: 'a | b at http://127.0.0.1:8080/v1' })];
    const rows = tableRows(renderRunPage(status({ stages, evaluation: null })));
    expect(rows.at(-1)).toBe(
      '| ✓\u00a0deploy\u2003 | 1\u00a0min\u00a049\u00a0s\u2003 | a \\| b at http://127.0.0.1:8080/v1 |',
    );
    expect(new Set(rows.map((row) => row.replaceAll('\\|', '').split('|').length)).size).toBe(1);
  });

  test('text of users cannot break out of its place', () => {
    const example = { prompt: 'a `b`\n### c', reference: 'x', before: null, after: '  ', correct: false };
    const page = renderRunPage(status({ evaluation: { ...EVALUATION, examples: [example] } }));
    expect(page).toContain("- `a 'b' ### c`: before (nothing), after (nothing)");
  });

  test('a paused run says who, when and why, in their words and not in Markdown’s, and points at no activity', () => {
    const stages = STAGES.map((stage) => done(stage, stage === 'train' ? { state: 'running', outcome: null } : {}));
    const decisions = [{ at: paused.since, by: 'ann', what: 'paused', why: paused.why }];
    const page = renderRunPage(status({ stages, paused, decisions }));
    expect(page).toContain('> **Paused** by ann since 24 Nov 2026, 10:00 UTC, after step 40. Why: the');
    expect(page).toContain('the \\*GPU\\* is needed \\| \\[now\\](https://x). `anneal resume intents-0123456789ab`');
    expect(page).toContain('- 24 Nov 2026, 10:00 UTC ann: paused, the');
    expect(page).toContain('‖\u00a0train');
    expect(page).toContain('| paused after step 40 |');
    expect(page).not.toContain('pending-activities');
  });

  test('what preprocess took, and of many decisions the last ones', () => {
    const decisions = Array.from({ length: 12 }, (_, i) => ({
      at: paused.since,
      by: `person-${i}`,
      what: 'paused',
      why: '',
    }));
    const page = renderRunPage(
      status({ decisions, preprocessSeconds: 2, sourceBytes: 5e6, data: { ...ACCOUNTS, rowsIn: 12_345 } }),
    );
    expect(page).toContain('- prepared in 2.0 s: 6,173 rows, 2.5 MB a second');
    expect(page).toContain('- 2 earlier ones are in the history\n- 24 Nov 2026, 10:00 UTC person-2: paused\n');
  });

  test('the losses as a line of bars, and each validation beside the training', () => {
    const training = {
      ...{ step: 4, loss: 2, trainableParameters: 1, totalParameters: 2, recoveries: 0, weightsSha256: '' },
      goodput: { share: 1, lostSeconds: {} },
      curve: {
        steps: [4, 3, 2, 1].map((loss, i) => ({ step: i + 1, loss, gradNorm: 1, learningRate: 1 })),
        validations: [
          { step: 2, loss: 2.5, accuracy: 0.5 },
          { step: 4, loss: 2.75, accuracy: 0.625 },
        ],
      },
    };
    const page = renderRunPage(status({ training, evaluation: null }));
    expect(page).toContain('### Training\n\n- loss █▆▃▁ 4.000 → 1.000\n');
    expect(tableRows(page).slice(-2)).toEqual([
      '| 2\u2003 | 3.500\u2003 | 50.0\u00a0%\u2003 | **2.500**, the best |',
      '| 4\u2003 | 1.500\u2003 | 62.5\u00a0%\u2003 | 2.750 |',
    ]);
    expect(renderRunPage(status({ training: { ...training, curve: undefined } }))).not.toContain('### Training');
  });

  test('a run that is saving says so', () => {
    expect(renderRunPage(status({ paused: { ...paused, isSaving: true } }))).toContain(', saving now.');
  });
});

describe('the page of a sweep', () => {
  test('is a table of its trials', () => {
    const trial = {
      state: 'lost' as const,
      share: 0.25,
      step: 20,
      evalLoss: 0.5,
      why: 'place 2 of 2',
      isOutOfBudget: false,
    };
    const page = renderSweepPage({
      ...{ sweep: 's', name: 'rates', rungs: [0.25, 1], winner: 's-02', result: null },
      trials: [
        { ...trial, run: 's-01', changes: 'train.learningRate=0.1' },
        { ...trial, run: 's-02', changes: 'train.learningRate=0.2', state: 'won', why: null },
      ],
    });
    expect(page).toContain('2 trials, compared by validation loss at 25 %, 100 % of the steps.');
    expect(page).toContain('[trial\u00a01](/namespaces/{namespace}/workflows/s-01)');
    expect(page).toContain('0.5000');
    expect(page).toContain('**Best: [s-02]');
  });
});

describe('the page of the pool', () => {
  const host = (name: string) => ({ name, bootId: 'b', device: 'gpu' as const, slots: 8, labels: '' });
  const request = {
    ...{ id: 'r', workflowId: 'r', workflowRunId: '1', run: 'large-1', team: 'research', priority: 2 },
    ...{ hosts: 2, processes: 8, device: 'auto' as const, prefer: [] },
  };
  const state: PoolState = {
    hosts: [host('a'), { ...host('b'), isAway: true }],
    grants: [],
    waiting: [{ request, sinceMs: 0, impossibleSinceMs: null, why: '1 of 2 hosts is free.' }],
    quotas: { research: 16 },
  };

  test('says who waits and why, what each host works for, and what a team holds', () => {
    const page = renderPoolPage(state);
    expect(page).toContain('**2 hosts**, 0 gangs with 0 ranks, **1 waiting**');
    expect(page).toContain('2\u00a0hosts\u00a0×\u00a08\u00a0ranks');
    expect(page).toContain('[large-1](/namespaces/{namespace}/workflows/large-1): 1 of 2 hosts is free.');
    expect(page).toContain('a run on one host');
    expect(page).toContain('| 0 of 16 |');
    expect(renderPoolPage({ ...state, hosts: [], waiting: [] })).toContain('Every GPU worker joins when it starts.');
  });
});
